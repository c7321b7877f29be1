"""A JSON body: {"inputs": "<base64>" or a list of such, "parameters": {…}}."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from server.dialects.classify.parameters import NAMES, chosen
from server.http.faults import BadRequest

_EXAMPLE = 'Send {"inputs": "<base64>", "parameters": {"top_k": 5}}; "inputs" may be a list.'
_INPUTS, _PARAMETERS = "inputs", "parameters"


class JsonBody(NamedTuple):
    """What the document holds: each input's text, and the parameters that were chosen."""

    inputs: list[str]
    parameters: dict[str, Any]


class _Object(list[tuple[str, Any]]):
    """An object of the document, with each name as often as it is there."""


def read_json(body: bytes | bytearray, max_inputs: int) -> JsonBody:
    """Takes a document apart.

    Args:
        body: UTF-8, UTF-16 or UTF-32; line ends within a string are taken as they are.
        max_inputs: that are allowed.

    Raises:
        BadRequest: it is no JSON, holds something else, or holds something twice.
    """
    # Base64 has none of these characters; json.loads on millions of them holds up every thread for seconds.
    if sum(map(body.count, (b",", b"[", b"{"))) > 10 * max_inputs + 100:
        raise BadRequest(f"The JSON holds far more than {max_inputs} inputs and the parameters.", _EXAMPLE)
    members = _unique(_document(body), "the JSON", (_INPUTS, _PARAMETERS, *NAMES))
    inner = members.get(_PARAMETERS)
    if inner is not None and not isinstance(inner, _Object):
        raise BadRequest('"parameters" must be an object.', _EXAMPLE)
    _unique(inner or _Object(), '"parameters"', NAMES)
    beside = [(name, members[name]) for name in NAMES if name in members]
    return JsonBody(_texts(members.get(_INPUTS)), chosen([*(inner or ()), *beside], "the JSON"))


def _document(body: bytes | bytearray) -> _Object:
    try:
        # Not strict: a shell that puts the output of `base64` between quotes leaves its line ends there.
        document = json.loads(body, strict=False, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno:,}, column {error.colno:,}"
        raise BadRequest(f"The body is not valid JSON; it goes wrong at {place}.", _EXAMPLE) from None
    except UnicodeDecodeError:
        raise BadRequest("The JSON is not UTF-8.", _EXAMPLE) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of nested brackets
        raise BadRequest("The JSON holds a number or brackets that no parameter has.", _EXAMPLE) from None
    if not isinstance(document, _Object):
        raise BadRequest("The JSON must be an object.", _EXAMPLE)
    return document


def _unique(pairs: _Object, where: str, allowed: Sequence[str]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name not in allowed:
            names = ", ".join(allowed)
            raise BadRequest(f"{json.dumps(name[:40])} in {where} is not known; allowed are {names}.", _EXAMPLE)
        if name in members and members[name] != value:
            raise BadRequest(f'"{name}" has two values in {where}; choose one.')
        members[name] = value
    return members


def _texts(inputs: Any) -> list[str]:
    if inputs is None:
        raise BadRequest('The JSON has no "inputs".', _EXAMPLE)
    texts = [inputs] if isinstance(inputs, str) else inputs
    if isinstance(texts, _Object) or not isinstance(texts, list):
        raise BadRequest('"inputs" must be a base64 string, or a list of them.', _EXAMPLE)
    if not texts:
        raise BadRequest('"inputs" is an empty list.', _EXAMPLE)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise BadRequest(f'Number {number} in "inputs" must be a base64 string.', _EXAMPLE)
    return texts
