"""The tensors that a model takes and returns, as far as they are known before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass

ANY = "ANY"  # a datatype that is not known
_NUMBERS = [f"{kind}{bits}" for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)]
DATATYPES = (ANY, "BOOL", *_NUMBERS, "FP16", "FP32", "FP64", "BF16", "BYTES")
ARGUMENT, RESULT = "INPUT__", "OUTPUT__"  # names of tensors that have none, with their place behind them


@dataclass(frozen=True)
class TensorSpec:
    """A tensor.

    Attributes:
        name: of it.
        datatype: "FP32", "BYTES" … as the Open Inference Protocol names them, or `ANY`.
        shape: -1 for a dimension of any length; None: not known.
    """

    name: str
    datatype: str = ANY
    shape: tuple[int, ...] | None = None
