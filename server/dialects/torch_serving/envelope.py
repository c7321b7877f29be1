"""`{"code", "description", "message", "result"}`: every answer, good or bad."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from server.http.faults import Fault, Refusal
from server.operations.access_log import OUTCOME

INVALID_JSON = "Invalid JSON"
INVALID_INPUT = "Invalid Input JSON"
WRONG_SHAPE = "Incompatible tensor shapes"
WRONG_DTYPE = "Incompatible tensor data type"
_UNKNOWN = "Invalid servable identifier"
_UNEXPECTED = "Unexpected server error"

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS
# Kinds of faults that are a plain 404 or 400 without a body.
_BARE = {"not-found": 404, "method-not-allowed": 404, "malformed-http": 400}
_IN_OWN_WORDS = {"unknown-model": _UNKNOWN, "model-error": _UNKNOWN, "model-raised": _UNEXPECTED}


def refusal(description: str, text: str = "") -> Refusal:
    """The error of a request with a 400, one of the descriptions above, and what is wrong about it."""
    return Refusal(Fault(400, "bad-request", description, text))


def good(result: Any, description: str = "Success") -> web.Response:
    """The response to a request that succeeded; a result that is empty is left out."""
    return _response(200, description, result)


def bad(fault: Fault) -> web.Response:
    """The response to one that did not."""
    if fault.kind in _BARE:
        response = web.Response(status=_BARE[fault.kind], body=b"", content_type="text/plain")
    else:
        known = _IN_OWN_WORDS.get(fault.kind)
        status, text = (400, "") if known == _UNKNOWN else (fault.status, fault.detail)
        response = _response(status, known or (_UNEXPECTED if status == 500 else fault.title), text)
        response.headers.update(fault.headers)
    response[OUTCOME] = fault.kind
    return response


def _response(status: int, description: str, result: Any) -> web.Response:
    message = "OK" if status < 400 else "Client Error" if status < 500 else "Server Error"
    document = {"code": status, "description": description, "message": message}
    if result is not None and not (isinstance(result, dict | list | str) and not result):
        document["result"] = result
    return web.Response(
        status=status, body=orjson.dumps(document, option=_OPTIONS), content_type="application/json"
    )
