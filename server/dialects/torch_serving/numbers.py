"""Lists of JSON numbers -> arrays, each number in the dtype that it is to have."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.dialects.torch_serving.envelope import INVALID_INPUT, WRONG_DTYPE, WRONG_SHAPE, refusal

_MOST_DIMENSIONS = 64  # of numpy's arrays and of torch's tensors
_MOST_ELEMENTS = 1 << 32  # that a tensor without elements would have if its empty dimensions had one
_KINDS = {type(None): "null", str: "string", list: "array", dict: "object"}


def array_of(values: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """One number after another, [N].

    Fractions are cut toward zero for integers; true and false count as 1 and 0.

    Args:
        values: of JSON.
        dtype: of the array.

    Raises:
        Refusal: one of them is no number, or beyond the range of an integer dtype.
    """
    try:
        if dtype.kind in "iu":
            return _integers(values, dtype)
        numbers = np.frombuffer(array("d", values))
    except (TypeError, OverflowError):
        raise _not_numbers(values) from None
    if dtype.kind == "b":
        return np.not_equal(numbers, 0)
    with np.errstate(over="ignore"):  # becomes infinity
        return numbers.astype(dtype, copy=False)


def number_of(value: float, dtype: np.dtype[Any]) -> bool | float:
    """One number as Python has it, after it went through its dtype. Raises Refusal."""
    number: bool | float = array_of([value], dtype)[0].item()
    return number


def shape_of(sizes: Sequence[Any], count: int) -> tuple[int, ...]:
    """The shape of a tensor that has `count` numbers in it.

    Raises:
        Refusal: the sizes are no whole numbers, or not for so many.
    """
    if len(sizes) > _MOST_DIMENSIONS:
        raise refusal(WRONG_SHAPE, f"A tensor may have {_MOST_DIMENSIONS} dimensions, found {len(sizes)}")
    shape = tuple([_size(each) for each in sizes])
    expected = math.prod(shape)
    if expected != count:
        text = f"Dimension mismatch - shape expected {expected} total elements, found {count} total elements"
        raise refusal(WRONG_SHAPE, text)
    if min(shape, default=0) < 0:
        raise refusal(WRONG_SHAPE, f"A dimension cannot be negative: {min(shape)}")
    if not count and math.prod(each or 1 for each in shape) > _MOST_ELEMENTS:
        raise refusal(WRONG_SHAPE, "The dimensions beside the empty one are too large")
    return shape


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise refusal(INVALID_INPUT, f"'shape' must be whole numbers, but {_shown(value)} is in it")
    return int(value)


def _integers(values: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        whole = array("q", values)
    except (TypeError, OverflowError):  # fractions; or what fits no dtype, and is found below
        whole = array("q", [_whole(each, dtype, place) for place, each in enumerate(values)])
    numbers, limits = np.frombuffer(whole, np.int64), np.iinfo(dtype)
    if numbers.size and (numbers.min() < limits.min or numbers.max() > limits.max):
        place = int(np.argmax((numbers < limits.min) | (numbers > limits.max)))
        raise _beyond(values[place], dtype, place)
    return numbers.astype(dtype, copy=False)


def _whole(value: Any, dtype: np.dtype[Any], place: int) -> int:
    if not isinstance(value, int | float):
        raise TypeError
    whole = math.trunc(value)
    if not -(2**63) <= whole < 2**63:
        raise _beyond(value, dtype, place)
    return whole


def _beyond(value: float, dtype: np.dtype[Any], place: int) -> Exception:
    return refusal(WRONG_DTYPE, f"Number {place + 1:,} of 'value', {_shown(value)}, is out of range for {dtype}")


def _not_numbers(values: Sequence[Any]) -> Exception:
    for place, value in enumerate(values):
        if type(value) in _KINDS:
            kind = _KINDS[type(value)]
            return refusal(INVALID_INPUT, f"'value' must be numbers, but entry {place + 1:,} is of type {kind}")
    return refusal(WRONG_DTYPE, "A number in 'value' is out of range")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
