"""The output of a program that holds the scores, and its activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from models.bundles.spec import MEASURED
from models.errors import EngineError

_SUM_TOLERANCE = 1e-3  # what adding up rounds
_NAMES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.int64: "int64",
}


def tensors_of(answer: Any) -> dict[str, torch.Tensor]:
    """The tensors of an answer by name: a dict's keys, a named tuple's fields, else positions from 0."""
    if isinstance(answer, torch.Tensor):
        return {"": answer}
    if isinstance(answer, Mapping):
        pairs = [(str(name), value) for name, value in answer.items()]
    elif isinstance(answer, Sequence) and not isinstance(answer, str):
        names = getattr(answer, "_fields", range(len(answer)))
        pairs = [(str(name), value) for name, value in zip(names, answer, strict=True)]
    else:
        pairs = []
    return {name: value for name, value in pairs if isinstance(value, torch.Tensor)}


def describe(answer: Any) -> str:
    """Type and shapes in words: "a tuple of float32 [4, 5] and float32 [4, 512]"."""
    if isinstance(answer, torch.Tensor):
        return _shape(answer)
    kind = "a dict" if isinstance(answer, Mapping) else "a tuple" if isinstance(answer, Sequence) else "no tensor"
    parts = [f"{name}: {_shape(tensor)}" for name, tensor in tensors_of(answer).items()]
    return f"{kind} of {', '.join(parts)}" if parts else kind


def _shape(tensor: torch.Tensor) -> str:
    return f"{_NAMES.get(tensor.dtype, str(tensor.dtype).removeprefix('torch.'))} {list(tensor.shape)}"


def choose_output(answer: Any, wanted: str, rows: int, num_classes: int) -> str:
    """The name of the output that holds the scores; "" where there is only one tensor and no choice.

    Args:
        answer: the program's, to `rows` images.
        wanted: the name that was asked for, or "".
        rows: images that were asked about.
        num_classes: how many labels there are.

    Raises:
        EngineError: no output can be it, or several can; the message begins behind the file's name.
    """
    tensors = tensors_of(answer)
    positions = dict(zip(map(str, range(len(tensors))), tensors, strict=True))
    if wanted:
        if wanted not in tensors and wanted not in positions:
            there = ", ".join(filter(None, tensors)) or "one output without a name"
            raise EngineError(f"has no output {wanted!r}, it has {there}")
        return wanted if wanted in tensors else positions[wanted]
    if isinstance(answer, torch.Tensor):
        return ""
    ranks = [tensor.shape for tensor in tensors.values() if not tensor.is_floating_point()]
    fitting = [name for name, tensor in tensors.items() if fits(tensor, rows, num_classes)]
    if len(fitting) == 1 and tensors[fitting[0]].shape in ranks:
        raise EngineError(
            f"answers with {describe(answer)}: sorted scores and their class numbers, as topk gives them? Export "
            f"the scores in the order of the labels; if they are, --output {fitting[0]}"
        )
    if len(fitting) == 1:
        return fitting[0]
    what = "none of which has one score for each of" if not fitting else "several of which fit"
    hint = f"; name one: --output {fitting[0]}" if fitting else ""
    raise EngineError(f"answers with {describe(answer)}, {what} {_labels(num_classes)}{hint}")


def _labels(number: int) -> str:
    return f"the {number} labels" if number else "its classes"


def fits(tensor: torch.Tensor, rows: int, num_classes: int) -> bool:
    """Whether it holds one score per label for each image; one score will do for two labels.

    Args:
        tensor: an output.
        rows: images that were asked about.
        num_classes: how many labels there are; `MEASURED`: any number.
    """
    if num_classes == MEASURED:
        return tensor.is_floating_point() and tensor.dim() == 2 and len(tensor) == rows
    if not tensor.is_floating_point() or (rows > 1 and (tensor.dim() == 0 or len(tensor) != rows)):
        return False
    return tensor.numel() == rows * num_classes or (num_classes == 2 and tensor.numel() == rows)


class Output(nn.Module):
    """A program of which one output is taken, as float [N, columns]."""

    def __init__(self, program: nn.Module, name: str) -> None:
        super().__init__()
        self.program = program
        self.name = name

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The named output: [N, num_classes]."""
        return tensors_of(self.program(images))[self.name].reshape(len(images), -1)


class Rows(nn.Module):
    """A program that answers with one tensor: each image gets its row, though `squeeze` took it away."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """One row per image: [N, num_classes]."""
        rows: torch.Tensor = self.program(images).reshape(images.size(0), -1)
        return rows


class Pair(nn.Module):
    """The two scores of a network with one: [N, 1] -> [N, 2]; the second label's score is the network's own."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Both classes of a binary score: [N, 2]."""
        score = self.graph(images)
        return torch.cat([1 - score, score], dim=1)


class OneByOne(nn.Module):
    """A program that takes a single image at a time."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images one by one, for a program with a fixed batch of 1."""
        return torch.cat([self.graph(images[row : row + 1]) for row in range(len(images))])


def choose_activation(outputs: torch.Tensor, extreme: torch.Tensor, wanted: str) -> tuple[str, str]:
    """What makes scores of the outputs, one of `models.bundles.spec.ACTIVATIONS`, and a notice for people, or "".

    Args:
        outputs: float [N, columns], the network's, to different images.
        extreme: float [M, columns], its outputs to images far beyond what pixels can be; NaN is ignored. Logits
            may lie between 0 and 1 by chance, but not these.
        wanted: what was asked for, or "" to find out.

    Raises:
        EngineError: "none" was asked for, and the outputs are no scores; or a softmax over a single one.
    """
    are_scores = _within(outputs) and _within(extreme.nan_to_num(0, torch.inf, -torch.inf))
    sum_to_one = bool(((outputs.sum(dim=1) - 1).abs() <= _SUM_TOLERANCE).all())
    if wanted == "none" and not _within(outputs):
        lowest, highest = float(outputs.min()), float(outputs.max())
        raise EngineError(
            f"outputs from {lowest:.3g} to {highest:.3g} are no scores between 0 and 1: --activation must be "
            "softmax or sigmoid, not none"
        )
    if wanted == "softmax" and outputs.shape[1] == 1:
        raise EngineError("has one output, over which a softmax is always 1: --activation must be sigmoid or none")
    if wanted:
        doubled = wanted != "none" and are_scores and (sum_to_one or wanted == "sigmoid")
        return wanted, f"the outputs are scores already, and {wanted} flattens them" if doubled else ""
    if are_scores and outputs.shape[1] > 1 and sum_to_one:
        return "none", ""
    if are_scores:
        return "none", "the outputs lie between 0 and 1 and are the scores; if they are logits, name --activation"
    if outputs.shape[1] == 1:  # a softmax over one output is 1 whatever the network says
        return "sigmoid", "one output, taken for a logit: its sigmoid is the score"
    return "softmax", ""


def _within(values: torch.Tensor) -> bool:
    return bool(((values >= -_SUM_TOLERANCE) & (values <= 1 + _SUM_TOLERANCE)).all())
