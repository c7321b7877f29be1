"""Nested values with arrays <-> the same with torch's tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from runtime.errors import UnsupportedOutput
from runtime.values import BFLOAT16, Nested

# What numpy has types for.
_DTYPES = {
    torch.bool,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
}


def mapped(tree: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same lists, tuples and dicts, with each leaf of that kind changed."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, list):
        return [mapped(each, kind, change) for each in tree]
    if isinstance(tree, tuple):
        return tuple([mapped(each, kind, change) for each in tree])
    if isinstance(tree, dict):
        return {key: mapped(each, kind, change) for key, each in tree.items()}
    return tree


def to_tensors(tree: Nested, device: torch.device, copy: bool) -> Any:
    """Arrays -> tensors on a device; without `copy` they may be the same memory."""

    def tensor(array: Any) -> torch.Tensor:
        if array.dtype == BFLOAT16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(device, copy=copy)
        return torch.from_numpy(np.asarray(array)).to(device, copy=copy)

    return mapped(tree, np.ndarray, tensor)


def to_arrays(result: Any) -> Nested:
    """What a program returned, with contiguous arrays of our own for tensors.

    Raises:
        UnsupportedOutput: a tensor's dtype, a dict's keys, or a type that no nested value has.
    """
    if isinstance(result, torch.Tensor):
        return _array(result)
    if isinstance(result, list):
        return [to_arrays(each) for each in result]
    if isinstance(result, tuple):
        return tuple([to_arrays(each) for each in result])
    if isinstance(result, dict):
        if not all(isinstance(key, str) for key in result):
            raise UnsupportedOutput("keys", "The model returned a dict whose keys are not text.")
        return {key: to_arrays(each) for key, each in result.items()}
    if result is None or isinstance(result, bool | int | float | str):
        return result
    raise UnsupportedOutput("type", f"The model returned a value of type {type(result).__name__}.")


def _array(tensor: torch.Tensor) -> Nested:
    if tensor.dtype not in _DTYPES and tensor.dtype != torch.bfloat16:
        raise UnsupportedOutput("dtype", f"The model returned a tensor of {tensor.dtype}.")
    if tensor.layout != torch.strided:
        raise UnsupportedOutput("type", f"The model returned a tensor of layout {tensor.layout}.")
    if tensor.dtype == torch.bfloat16:
        bits = tensor.detach().contiguous().view(torch.int16)
        return bits.to("cpu", copy=True).numpy(force=True).view(BFLOAT16)
    # A copy: the model may keep the tensor, or have it in common with its input.
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format).numpy(force=True)
