"""Nested values: what models without a fixed signature take and return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Arrays, in lists, tuples and dicts of any depth.
Nested: TypeAlias = (
    "NDArray[Any] | int | float | bool | str | list[Nested] | tuple[Nested, ...] | dict[str, Nested] | None"
)

DTYPES = {
    name: np.dtype(name)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
}


BFLOAT16 = np.dtype("V2")  # of arrays of bfloat16, for which numpy has no type: two bytes each


class Tensors(NamedTuple):
    """Named arrays of one item: an image, or a call of a program.

    Attributes:
        arrays: by name, in order.
    """

    arrays: Mapping[str, NDArray[Any]]
