"""Envelope `kservev2`: the JSON of the Open Inference Protocol, version 2."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from models.handlers.context import Context
from models.handlers.envelopes.base import BaseEnvelope, list_in

_DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
_BYTES = "BYTES"


class KServev2Envelope(BaseEnvelope):
    """Each input is a row, whose field `data` has its values, nested as its shape says."""

    def __init__(self, handle_fn: Callable[[Sequence[Any], Context], Any]) -> None:
        super().__init__(handle_fn)
        self._requests: dict[int, tuple[str, list[str]]] = {}  # of the batch: id and names of inputs, by place

    def rows_of(self, content: Any, place: int) -> list[Any]:
        """The inputs."""
        inputs = list_in(content, "inputs")
        names = [str(each["name"]) for each in inputs]
        self._requests[place] = str(content.get("id") or uuid.uuid4()), names
        return [{"data": _values(each)} for each in inputs]

    def answer(self, results: list[Any], place: int) -> dict[str, Any]:
        """An output for each input, of the same name."""
        assert self.context is not None
        described = self.context.manifest["model"]
        request_id, names = self._requests[place]
        return {
            "id": request_id,
            "model_name": described["modelName"],
            "model_version": described.get("modelVersion", "1.0"),
            "outputs": [_output(*pair) for pair in zip(names, results, strict=True)],
        }


def _values(given: dict[str, Any]) -> Any:
    """What a row gets of an input: a text, or nested lists. Raises ValueError: shape and values do not fit."""
    data, shape, datatype = given["data"], given["shape"], given["datatype"]
    if datatype == _BYTES:
        if not isinstance(data, list) or len(data) != 1:
            raise ValueError("an input of BYTES has one text")
        return data[0]
    values = list(_flat(data))
    if any(not isinstance(length, int) or length < 0 for length in shape) or math.prod(shape) != len(values):
        raise ValueError(f"{len(values)} value(s) for the shape {shape}")
    return np.array(values, dtype=object).reshape(shape).tolist()


def _flat(data: Any) -> Iterator[Any]:
    if isinstance(data, list):
        for each in data:
            yield from _flat(each)
    else:
        yield data


def _output(name: str, result: Any) -> dict[str, Any]:
    """A result as an output: numbers flat, with their shape; anything else as it is."""
    array = _array(result)
    if array is None:
        return {"name": name, "datatype": _BYTES, "data": [result], "shape": [1]}
    shape = list(array.shape) or [1]
    datatype = _DATATYPES[array.dtype.name]
    return {"name": name, "datatype": datatype, "data": array.reshape(-1).tolist(), "shape": shape}


def _array(result: Any) -> Any:
    """Nested numbers as an array; None for anything else."""
    try:
        array = np.asarray(result)
    except ValueError:
        return None
    return array if array.dtype.name in _DATATYPES else None
