"""What an inference request asks, the same over HTTP and gRPC; and the JSON and bytes of HTTP."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from server.dialects.open_inference.datatypes import BYTES, check_datatype, check_shape
from server.dialects.open_inference.tensors import Tensor, from_bytes, from_json, shown
from server.http.faults import BadRequest, BodyTooLarge
from server.http.json_pieces import loads_in_pieces

IN_PIECES = 200_000  # bytes of JSON that are parsed in a few milliseconds
_MOST_BRACKETS = 100_000  # objects and lists of a body: each takes far more memory than its text, and half a µs
_MOST_NOT_FINITE = 1_000_000  # bytes of JSON with NaN or Infinity: Python's own parser cannot be interrupted
_MANY_ELEMENTS = 2_000  # of BYTES
_MANY_BYTES = 1_000_000


class Wanted(NamedTuple):
    """An output that is asked for.

    Attributes:
        name: of it.
        classes: how many of the best, as text; 0: its values.
        is_binary: as bytes behind the JSON.
    """

    name: str
    classes: int = 0
    is_binary: bool = False


class InferRequest(NamedTuple):
    """A request for one inference.

    Attributes:
        tensors: its inputs.
        wanted: outputs; none: all.
        id: to be sent back; "" for none.
        is_binary: outputs that are not listed are sent as bytes.
    """

    tensors: Sequence[Tensor]
    wanted: Sequence[Wanted] = ()
    id: str = ""
    is_binary: bool = False


class Sent(NamedTuple):
    """An input as it was sent.

    Attributes:
        name: of it.
        datatype: checked.
        shape: checked.
        data: JSON, or a view of the bytes.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any

    def tensor(self) -> Tensor:
        """Its values. Raises BadRequest."""
        if isinstance(self.data, memoryview):
            return from_bytes(self.name, self.datatype, self.shape, self.data)
        return from_json(self.name, self.datatype, self.shape, self.data)


class Document(NamedTuple):
    """The JSON of a request, checked but for its tensors' values."""

    sent: Sequence[Sent]
    wanted: Sequence[Wanted]
    id: str
    is_binary: bool

    @property
    def takes_long(self) -> bool:
        """Whether there are many elements that are cut one by one, or many bytes, which may have to be copied."""
        sizes = [len(each.data) for each in self.sent if isinstance(each.data, memoryview)]
        elements = sum(math.prod(each.shape) for each in self.sent if each.datatype == BYTES)
        return elements > _MANY_ELEMENTS or sum(sizes) > _MANY_BYTES

    def request(self) -> InferRequest:
        """With the values of all tensors. Raises BadRequest."""
        return InferRequest([each.tensor() for each in self.sent], self.wanted, self.id, self.is_binary)


def json_length(given: str | None, length: int) -> int:
    """How many bytes of a body are JSON.

    Args:
        given: the header Inference-Header-Content-Length; None: it is missing, and all of them are.
        length: of the body.

    Raises:
        BadRequest: it is no number, or beyond the body.
    """
    if given is None:
        return length
    if not (given.isascii() and given.isdigit() and len(given) < 20 and 0 < int(given) <= length):
        raise BadRequest(f"Inference-Header-Content-Length must be a number from 1 to the body's {length:,} bytes")
    return int(given)


def read_document(body: memoryview, json_bytes: int) -> Document:
    """Reads the JSON and says where the bytes of each tensor lie.

    Args:
        body: without encoding.
        json_bytes: of it that are JSON.

    Raises:
        BadRequest: it is no request of this protocol.
        BodyTooLarge: it has too many objects and lists.
    """
    document = _parsed(bytes(body[:json_bytes]))
    if not isinstance(document, dict):
        raise BadRequest("the request must be a JSON object")
    if not isinstance(document.get("id", ""), str):
        raise BadRequest("'id' must be a text")
    inputs, outputs = document.get("inputs"), document.get("outputs") or []
    if not isinstance(inputs, list) or not inputs:
        raise BadRequest("'inputs' must be a list with at least one input")
    if not isinstance(outputs, list):
        raise BadRequest("'outputs' must be a list")
    parameters = _parameters(document, "the request")
    is_binary = _flag(parameters, "binary_data_output", False)
    sent, end = [], json_bytes
    for given in inputs:
        each, end = _sent(given, body, end)
        sent.append(each)
    if end != len(body):
        raise BadRequest(f"{len(body) - end:,} bytes of the body belong to no input's 'binary_data_size'")
    check_names([each.name for each in sent], "input")
    wanted = [_wanted(each, is_binary) for each in outputs]
    check_names([each.name for each in wanted], "output")
    return Document(sent, wanted, document.get("id", ""), is_binary)


def check_names(names: Sequence[str], kind: str) -> None:
    """Raises BadRequest where one is there twice."""
    known = set[str]()
    for name in names:
        if name in known:
            raise BadRequest(f"{kind} '{shown(name)}' is there twice")
        known.add(name)


def classes_of(parameters: Mapping[str, Any], name: str) -> int:
    """How many classes an output is to have; 0: its values are asked for. Raises BadRequest."""
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise BadRequest(f"output '{shown(name)}': 'classification' must be a whole number from 0")
    return classes


def check_no_shared_memory(parameters: Mapping[str, Any], where: str) -> None:
    """Raises BadRequest where a tensor lies, or is to lie, in shared memory."""
    if "shared_memory_region" in parameters:
        raise BadRequest(f"{where}: this server has no shared memory with its clients")


def _sent(given: Any, body: memoryview, begin: int) -> tuple[Sent, int]:
    """An input, and where the bytes of the next one begin."""
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise BadRequest("each of 'inputs' must be an object with a 'name'")
    name = given["name"]
    where = f"input '{shown(name)}'"
    datatype, shape = (
        check_datatype(given.get("datatype"), shown(name)),
        check_shape(given.get("shape"), shown(name)),
    )
    parameters = _parameters(given, where)
    check_no_shared_memory(parameters, where)
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in given:
            raise BadRequest(f"{where} has neither 'data' nor 'binary_data_size'")
        return Sent(name, datatype, shape, given["data"]), begin
    if "data" in given:
        raise BadRequest(f"{where} has both 'data' and 'binary_data_size'")
    if type(size) is not int or not 0 <= size <= len(body) - begin:
        raise BadRequest(f"{where}: 'binary_data_size' must be a number of bytes that the body has left")
    return Sent(name, datatype, shape, body[begin : begin + size]), begin + size


def _wanted(given: Any, is_binary: bool) -> Wanted:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise BadRequest("each of 'outputs' must be an object with a 'name'")
    name = given["name"]
    where = f"output '{shown(name)}'"
    parameters = _parameters(given, where)
    check_no_shared_memory(parameters, where)
    return Wanted(name, classes_of(parameters, name), _flag(parameters, "binary_data", is_binary))


def _parameters(given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    found = given.get("parameters", {})
    if not isinstance(found, dict):
        raise BadRequest(f"{where}: 'parameters' must be an object")
    return found


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    found = parameters.get(name, default)
    if not isinstance(found, bool):
        raise BadRequest(f"'{name}' must be true or false")
    return found


def _parsed(text: bytes) -> Any:
    if not text:
        raise BadRequest("the body is empty")
    brackets = text.count(b"{") + text.count(b"[")
    if brackets > _MOST_BRACKETS:
        said = f"The JSON has {brackets:,} objects and lists, at most {_MOST_BRACKETS:,} are allowed."
        raise BodyTooLarge(said, _MOST_BRACKETS, brackets)
    try:
        return orjson.loads(text) if len(text) <= IN_PIECES else loads_in_pieces(text)
    except orjson.JSONDecodeError as error:
        fault = BadRequest(f"the JSON cannot be parsed, at line {error.lineno}, column {error.colno}")
    if len(text) > _MOST_NOT_FINITE or not (b"NaN" in text or b"Infinity" in text):
        raise fault
    try:
        document = json.loads(text)
        orjson.dumps(document)  # of texts without halves of characters, which no answer could repeat
    except (ValueError, TypeError, RecursionError):
        raise fault from None
    return document
