"""Tensors as JSON and as bytes, both directions."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from server.dialects.open_inference.datatypes import BF16, BYTES, DTYPES, datatype_of
from server.http.faults import BadRequest

_PIECE = 20_000  # numbers that are converted while the GIL is held: a millisecond
_LENGTH = struct.Struct("<I")  # in front of each element of BYTES
_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}
_SHOWN = 80  # characters of a name

Element = bytes | bytearray | memoryview | str  # of BYTES; text in JSON


class Tensor(NamedTuple):
    """A named tensor.

    Attributes:
        name: of the input or output.
        datatype: of the protocol.
        shape: of it.
        values: of that shape; the elements of BYTES in a list, row by row.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | Sequence[Element]


def tensor_of(name: str, values: NDArray[Any] | Sequence[Element], shape: Sequence[int] = ()) -> Tensor:
    """A tensor of an array, or of texts with their shape. Raises BadRequest: no datatype is like the array's."""
    if not isinstance(values, np.ndarray):
        return Tensor(name, BYTES, tuple(shape), values)
    datatype = datatype_of(values.dtype)
    if datatype is None:
        raise BadRequest(f"output '{name}': a tensor of {values.dtype} has no datatype in this protocol")
    return Tensor(name, datatype, values.shape, values)


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Tensor:
    """A tensor from the bytes of exactly its elements.

    Args:
        name: of the input.
        datatype: of the protocol.
        shape: checked.
        data: little-endian, row by row; each element of BYTES behind its length in 4 bytes.

    Raises:
        BadRequest: the bytes are not as many as datatype and shape say.
    """
    count = math.prod(shape)
    if datatype == BYTES:
        return Tensor(name, datatype, shape, _elements(name, count, data))
    dtype = DTYPES[datatype]
    if count * dtype.itemsize != len(data):
        raise BadRequest(
            f"input '{shown(name)}': {list(shape)} of {datatype} takes {count * dtype.itemsize:,} bytes, "
            f"{len(data):,} were sent"
        )
    array = np.frombuffer(data, dtype)
    if datatype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise BadRequest(f"input '{shown(name)}': a byte of BOOL must be 0 or 1")
    # A program may write to its arguments.
    return Tensor(name, datatype, shape, np.require(array, requirements=["A", "W"]).reshape(shape))


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Tensor:
    """A tensor from JSON: a flat list, or lists in lists like the shape.

    Raises:
        BadRequest: it has other elements than datatype and shape say.
    """
    flat = _flat(name, shape, data)
    _check_count(name, shape, len(flat))
    if datatype == BYTES:
        if any(set(map(type, flat[begin : begin + _PIECE])) - {str} for begin in range(0, len(flat), _PIECE)):
            raise BadRequest(f"input '{shown(name)}': 'data' of BYTES must be texts")
        return Tensor(name, datatype, shape, flat)
    if datatype == BF16:
        raise BadRequest(f"input '{shown(name)}': BF16 is sent as binary data")
    return Tensor(name, datatype, shape, _array(name, flat, datatype).reshape(shape))


def from_values(
    name: str, datatype: str, shape: tuple[int, ...], values: NDArray[Any] | Sequence[Element]
) -> Tensor:
    """A tensor from its elements in the datatype's dtype. Raises BadRequest: they are not as many as it has."""
    _check_count(name, shape, len(values))
    return Tensor(name, datatype, shape, values.reshape(shape) if isinstance(values, np.ndarray) else values)


def to_bytes(tensor: Tensor) -> bytes | memoryview:
    """The bytes of a tensor."""
    values = tensor.values
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    elements = [each.encode() if isinstance(each, str) else each for each in values]
    return b"".join(chain.from_iterable((_LENGTH.pack(len(each)), each) for each in elements))


def to_json(tensor: Tensor) -> orjson.Fragment:
    """The elements in a flat list; NaN and infinity as Python and JavaScript write them.

    Raises:
        BadRequest: they have no JSON form.
    """
    values = tensor.values
    if tensor.datatype == BF16:
        raise BadRequest(f"output '{tensor.name}': BF16 is sent as binary data; ask for it with 'binary_data'")
    if isinstance(values, np.ndarray):
        return orjson.Fragment(b"[" + b",".join(_numbers(values.reshape(-1))) + b"]")
    try:
        return orjson.Fragment(
            orjson.dumps([each if isinstance(each, str) else str(each, "utf-8") for each in values])
        )
    except UnicodeDecodeError:
        raise BadRequest(f"output '{tensor.name}': an element is no text; ask for it with 'binary_data'") from None


def shown(name: str) -> str:
    """A name of the client's in a message."""
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"


def _check_count(name: str, shape: tuple[int, ...], found: int) -> None:
    if found != (count := math.prod(shape)):
        raise BadRequest(f"input '{shown(name)}': {list(shape)} has {count:,} elements, {found:,} were sent")


def _elements(name: str, count: int, data: memoryview) -> list[Element]:
    begin = 0
    found: list[Element] = []
    for place in range(count):
        length = _LENGTH.unpack_from(data, begin)[0] if begin + _LENGTH.size <= len(data) else None
        begin += _LENGTH.size
        if length is None or begin + length > len(data):
            raise BadRequest(f"input '{shown(name)}': its bytes end within element {place:,} of {count:,}")
        found.append(data[begin : begin + length])
        begin += length
    if begin != len(data):
        raise BadRequest(
            f"input '{shown(name)}': {len(data) - begin:,} bytes are left behind its {count:,} elements"
        )
    return found


def _flat(name: str, shape: tuple[int, ...], data: Any) -> list[Any]:
    if not isinstance(data, list):
        if shape == () and data is not None:
            return [data]
        raise BadRequest(f"input '{shown(name)}': 'data' must be a list")
    if not data or not isinstance(data[0], list):
        return data
    level = data
    for depth, size in enumerate(shape):
        if depth:
            if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
                raise BadRequest(f"input '{shown(name)}': the lists in 'data' are not nested like its shape")
            level = list(chain.from_iterable(level))
        elif len(level) != size:
            raise BadRequest(f"input '{shown(name)}': the lists in 'data' are not nested like its shape")
    return level


def _array(name: str, flat: list[Any], datatype: str) -> NDArray[Any]:
    """Numbers -> an array, in pieces: others run between two of them."""
    dtype = DTYPES[datatype]
    array, allowed = np.empty(len(flat), dtype), _JSON_TYPES[dtype.kind]
    for begin in range(0, len(flat), _PIECE):
        piece = flat[begin : begin + _PIECE]
        if set(map(type, piece)) - allowed:
            place = begin + next(n for n, each in enumerate(piece) if type(each) not in allowed)
            raise BadRequest(f"input '{shown(name)}': element {place:,} of 'data' is no {datatype}")
        try:
            with np.errstate(over="ignore"):  # becomes infinity
                array[begin : begin + len(piece)] = piece
        except OverflowError:
            raise BadRequest(f"input '{shown(name)}': a number in 'data' is out of range for {datatype}") from None
    return array


def _numbers(flat: NDArray[Any]) -> Iterable[bytes]:
    """JSON of an array without brackets, in pieces."""
    if flat.dtype == np.float16:
        flat = flat.astype(np.float32)
    for begin in range(0, len(flat), _PIECE):
        piece = np.ascontiguousarray(flat[begin : begin + _PIECE])
        text = orjson.dumps(piece, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        if piece.dtype.kind == "f" and not np.isfinite(piece).all():
            words = text.split(b",")
            for place in np.flatnonzero(~np.isfinite(piece)):
                words[place] = _not_finite(piece[place])
            text = b",".join(words)
        yield text


def _not_finite(value: float) -> bytes:
    if math.isnan(value):
        return b"NaN"
    return b"Infinity" if value > 0 else b"-Infinity"
