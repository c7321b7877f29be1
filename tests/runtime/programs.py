"""Small programs of every signature, in TorchScript and of torch.export."""

from __future__ import annotations

import warnings
from typing import Any, Dict, List  # noqa: UP035  what TorchScript knows

import torch
from torch import Tensor, nn


class Id(nn.Module):
    def forward(self, x: Tensor):
        return x


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor):
        return x + y


class Int(nn.Module):
    def forward(self, n: int):
        return n * 2


class Float(nn.Module):
    def forward(self, n: float):
        return n / 3


class Bool(nn.Module):
    def forward(self, b: bool):
        return not b


class Str(nn.Module):
    def forward(self, s: str):
        return s + "!"


class TensorList(nn.Module):
    def forward(self, x: List[Tensor]):  # noqa: UP006
        return x


class TensorDict(nn.Module):
    def forward(self, x: Dict[str, Tensor]):  # noqa: UP006
        return x


class Zero(nn.Module):
    def forward(self):
        return torch.ones(2)


class Raises(nn.Module):
    def forward(self, x: Tensor):
        if bool((x > 0).any()):
            raise ValueError("positive numbers are not liked")
        return x


class Probe(nn.Module):
    """Does what it is told."""

    def forward(self, word: str, x: Tensor) -> Any:
        if word == "raise":
            raise ValueError("it was told")
        if word == "complex":
            return torch.complex(x.float(), x.float())
        return {"a": [x, x.t()], "b": (word, x.size(0), 0.1, True, None)}


class SumAndDifference(nn.Module):
    def forward(self, INPUT0: Tensor, INPUT1: Tensor):
        return INPUT0 + INPUT1, INPUT0 - INPUT1


class Described(nn.Module):
    """A tensor and a text."""

    def forward(self, IN: Tensor):
        return IN.to(torch.float32), "hello"


class Repeated(nn.Module):
    def forward(self, s: str, n: int):
        return s + str(n)


class DictOut(nn.Module):
    def forward(self, x: Tensor):
        return {"y": x, "z": x + 1}


class Half(nn.Module):
    def forward(self, x: Tensor):
        return x.half()


class BFloat16(nn.Module):
    def forward(self, x: Tensor):
        return x.to(torch.bfloat16)


class Complex(nn.Module):
    def forward(self, x: Tensor):
        return torch.complex(x, x)


class Nothing(nn.Module):
    def forward(self, x: Tensor):
        return None


class ListInt(nn.Module):
    def forward(self, x: Tensor):
        return [1, 2]


class ListStr(nn.Module):
    def forward(self, x: Tensor):
        return ["a"]


class DictInt(nn.Module):
    def forward(self, x: Tensor):
        return {1: x}


class BigInt(nn.Module):
    def forward(self, x: Tensor):
        return 4294967296123


class Nested(nn.Module):
    def forward(self, x: Tensor):
        return {"a": {"b": x}, "c": {"b": x}}


class Transposed(nn.Module):
    def forward(self, x: Tensor):
        return x.t()


class InPlace(nn.Module):
    """Writes to its input, and keeps what it returns."""

    def __init__(self):
        super().__init__()
        self.kept = torch.zeros(1)

    def forward(self, x: Tensor):
        self.kept.add_(x.add_(1))
        return self.kept


class Doubled(nn.Module):
    """Counts its calls in what it returns; its second result has a length of its own where `n` is 0."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, n: int):
        self.calls += 1
        return {"y": 2 * x, "calls": torch.full((x.size(0) if n else 1,), self.calls)}


class Example(nn.Module):
    """The signature of the README's example: T2 is exact, T1 depends on the weights."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 3))

    def forward(self, a: List[Tensor], b: Tensor, c: Dict[str, Tensor], d: int, e: str):  # noqa: UP006
        first = self.layers(a[0] + c["x"]) + 2 * a[1]
        second = a[1] + b + c["y"] + d
        return {"out": ([first, second], e, d)}


def save(module, file):
    """Writes a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module.eval()), file)
    return file


def export(module, arguments, file, **options):
    """Writes a module as torch.export does."""
    torch.export.save(torch.export.export(module.eval(), arguments, **options), file)
    return file
