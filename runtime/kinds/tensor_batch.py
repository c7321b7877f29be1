"""Calls whose tensors can be joined along their first dimension, run as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch

from runtime.kinds.tensor_values import mapped


class Joined:
    """Several calls as one.

    Attributes:
        arguments: of the one call.
    """

    def __init__(self, arguments: Any, lengths: list[int]) -> None:
        self.arguments = arguments
        self._lengths = lengths

    def split(self, result: Any) -> list[Any] | None:
        """The result of each call; None where a tensor in it has not one entry for each entry that went in."""
        total = sum(self._lengths)
        if any(not each.ndim or len(each) != total for each in _tensors(result)):
            return None
        ends = list(accumulate(self._lengths, initial=0))
        return [_part(result, begin, end) for begin, end in pairwise(ends)]


def _part(tree: Any, begin: int, end: int) -> Any:
    return mapped(tree, torch.Tensor, lambda tensor: tensor[begin:end])


def join(batch: Sequence[tuple[Any, ...]]) -> Joined | None:
    """Joins calls; None where they differ in more than the number of entries along their tensors' first dimension.

    Args:
        batch: positional arguments of each call, with tensors.
    """
    lengths: list[int] = []
    first = _form(batch[0])
    for arguments in batch:
        sizes = {len(each) if each.ndim else -1 for each in _tensors(arguments)}
        if len(sizes) != 1 or -1 in sizes or _form(arguments) != first:
            return None
        lengths += sizes
    columns = zip(*map(_tensors, batch), strict=True)
    joined = iter([torch.cat(column) for column in columns])
    return Joined(mapped(batch[0], torch.Tensor, lambda _: next(joined)), lengths)


def _tensors(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    mapped(tree, torch.Tensor, found.append)
    return found


def _form(tree: Any) -> Any:
    """What has to be equal: types, dtypes, shapes behind the first dimension, and all that is no tensor."""
    if isinstance(tree, torch.Tensor):
        return torch.Tensor, tree.dtype, tree.shape[1:]
    if isinstance(tree, list | tuple):
        return type(tree), [_form(each) for each in tree]
    if isinstance(tree, dict):
        return [(key, _form(each)) for key, each in tree.items()]
    return type(tree), tree
