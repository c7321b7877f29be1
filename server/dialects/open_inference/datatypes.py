"""The datatypes of the protocol, and their numpy dtypes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime.values import BFLOAT16
from server.http.faults import BadRequest

BYTES, BF16 = "BYTES", "BF16"
# Little-endian, as they are sent. BYTES has no dtype: its elements are of any length.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BF16: BFLOAT16,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MOST_DIMENSIONS = 64  # of numpy's arrays and of torch's tensors
_MOST_ELEMENTS = 1 << 32  # that a tensor without elements would have if its empty dimensions had one


def datatype_of(dtype: np.dtype[Any]) -> str | None:
    """The protocol's name; None where it has none."""
    return _NAMES.get(dtype)


def check_datatype(given: Any, name: str) -> str:
    """The datatype of an input. Raises BadRequest."""
    if given == BYTES or (isinstance(given, str) and given in DTYPES):
        return str(given)
    known = ", ".join((*DTYPES, BYTES))
    raise BadRequest(f"input '{name}': 'datatype' must be one of {known}")


def check_shape(sizes: Any, name: str) -> tuple[int, ...]:
    """The shape of an input. Raises BadRequest."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise BadRequest(f"input '{name}': 'shape' must be a list of whole numbers")
    if len(sizes) > _MOST_DIMENSIONS:
        raise BadRequest(
            f"input '{name}': a shape may have {_MOST_DIMENSIONS} dimensions, this one has {len(sizes)}"
        )
    if any(type(each) is not int or each < 0 for each in sizes):
        raise BadRequest(f"input '{name}': 'shape' must be a list of whole numbers from 0")
    if math.prod(each or 1 for each in sizes) > _MOST_ELEMENTS:
        raise BadRequest(f"input '{name}': its shape has more than {_MOST_ELEMENTS:,} elements")
    return tuple(sizes)
