"""TorchServe's responses: `{"status"}`, `{"code", "type", "message"}`, predictions, and the headers of all."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from aiohttp import web

from batching import ItemFailed
from runtime.errors import EngineDied, EngineTimeout, HandlerFailed, InvalidInput
from runtime.outputs import Output, Reply, Scores
from server.config import TorchServeConfig
from server.dialects.torchserve.route import Route
from server.http.faults import Fault, Refusal, fault_of
from server.operations.access_log import OUTCOME

_TOP = 5
_quoted = lru_cache(10_000)(json.dumps)  # names of classes
_JSON = "application/json"
_TYPE = "type"
_FRAMING = ("connection", "content-length", "transfer-encoding", "upgrade")
_NAME, _VALUE = re.compile(r"[!#$%&'*+.^_`|~\w-]+", re.ASCII), re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LEAST_STATUS, _MOST_STATUS = 200, 999
# Of the responses that a handler made: without a Content-Type of its own there is none.
UNTYPED = web.ResponseKey("torchserve-untyped", bool)

_NEVER_STORED = {
    "Pragma": "no-cache",
    "Cache-Control": "no-cache; no-store, must-revalidate, private",
    "Expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}
_TYPES = {
    404: "ResourceNotFoundException",
    405: "MethodNotAllowedException",
    408: "RequestTimeoutException",
    503: "ServiceUnavailableException",
    504: "RequestTimeoutException",
}
_MESSAGES = {
    "not-found": "Requested resource is not found, please refer to API document.",
    "method-not-allowed": "Requested method is not allowed, please refer to API document.",
    "malformed-http": "Invalid HTTP message.",
}
_NO_WORKER = (
    'Model "{}"{} has no worker to serve inference request. Please use scale workers API to add workers. If this '
    "is a sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize"
)
_WITHOUT_WORKER = ("no-workers", "queue-full")
_INTERNAL = "InternalServerException"
_STATUSES = {"resources": 507, "raised": 503, "no-list": 503, "length": 503, "type": 503}


def _plain_refusal() -> bytes:
    """A whole answer, for a client that has to be answered without an application."""
    status = "This TorchServe instance only accepts HTTPS requests"
    body = f"{json.dumps({'status': status}, indent=2)}\n".encode()
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: {_JSON}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


HTTPS_ONLY = _plain_refusal()  # to plain HTTP on a port that speaks HTTPS


def refusal(status: int, kind: str, java: str, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """An error in TorchServe's words.

    Args:
        status: of HTTP.
        kind: in one word, for metrics and the access log.
        java: name of the exception, which clients see as its type.
        message: for people.
        headers: that go with it.
    """
    return Refusal(Fault(status, kind, java, message, {_TYPE: java}, headers or {}))


def not_found() -> Refusal:
    """The error of an unknown address."""
    return refusal(404, "not-found", _TYPES[404], _MESSAGES["not-found"])


def not_allowed() -> Refusal:
    """The error of a method that an address does not take."""
    return refusal(405, "method-not-allowed", _TYPES[405], _MESSAGES["method-not-allowed"])


def wrong_key(what: str = "Authorization") -> Exception:
    """The error of a request without a valid key; what: that failed, in TorchServe's words."""
    message = f"Token {what} failed. Token either incorrect, expired, or not provided correctly"
    return refusal(400, "unauthorized", "InvalidKeyException", message)


def too_long(actual: int, limit: int) -> Exception:
    """The error of a response with more bytes than allowed: that of a worker which died, as in TorchServe."""
    message = f"The response has {actual:,} bytes, at most {limit:,} are allowed: max_response_size."
    return refusal(500, "response-too-large", _INTERNAL, message)


def status_response(text: str, status: int = 200) -> web.Response:
    """`{"status": text}`."""
    return json_response({"status": text}, status)


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON as the server itself writes it."""
    text = f"{json.dumps(document, indent=2)}\n".encode()
    return web.Response(status=status, body=text, content_type=_JSON, headers=headers)


def error_response(fault: Fault) -> web.Response:
    """The response to a request that cannot be answered."""
    java = fault.extras.get(_TYPE) or _TYPES.get(fault.status) or _by_class(fault.status)
    message = _MESSAGES.get(fault.kind, fault.detail) if _TYPE not in fault.extras else fault.detail
    response = json_response({"code": fault.status, "type": java, "message": message}, fault.status, fault.headers)
    response[OUTCOME] = fault.kind
    return response


def _by_class(status: int) -> str:
    return "BadRequestException" if status < 500 else _INTERNAL


def in_words(error: Exception, route: Route) -> Exception:
    """The error of a prediction in TorchServe's words, where it has some."""
    if isinstance(error, ItemFailed):
        return _of_item(error)
    fault = fault_of(error)
    if fault.kind in _WITHOUT_WORKER:
        version = "" if route.version is None else f' Version "{route.version}"'
        message = _NO_WORKER.format(route.model, version)
        return refusal(503, fault.kind, _TYPES[503], message, fault.headers)
    return error


def _of_item(error: ItemFailed) -> Exception:
    cause = error.__cause__
    if isinstance(cause, HandlerFailed):
        status = _STATUSES.get(cause.why) or allowed_status(cause.code)
        return refusal(status, f"handler-{cause.why}", _INTERNAL, str(cause))
    if isinstance(cause, EngineDied | EngineTimeout):
        kind = "engine-timeout" if isinstance(cause, EngineTimeout) else "engine-crash"
        return refusal(500, kind, _INTERNAL, "Worker died.")
    return error


def allowed_status(status: int) -> int:
    """A status that a handler has chosen, if it is one of a response with a body."""
    return status if _LEAST_STATUS <= status <= _MOST_STATUS else 500


def prediction(output: Output) -> web.Response:
    """What a model answers. Raises InvalidInput for one that this API has no form for."""
    if isinstance(output, Reply):
        return reply_response(output)
    if isinstance(output, Scores):
        return untyped(scores_json(output))
    raise InvalidInput("This model gives no scores, and has no handler.")


def reply_response(reply: Reply) -> web.Response:
    """The response that a handler made."""
    status = allowed_status(reply.status)
    reason = _CONTROL.sub(" ", reply.reason or "")
    response = web.Response(status=status, reason=reason, body=reply.body)
    add_headers(response, reply.headers, reply.content_type)
    return response


def add_headers(response: web.StreamResponse, headers: tuple[tuple[str, str], ...], content_type: str) -> None:
    """Gives a response the headers of a handler, but for those that frame the message or would break it."""
    for name, value in (*headers, *([("Content-Type", content_type)] if content_type else [])):
        if name.lower() not in _FRAMING and _NAME.fullmatch(name) and _VALUE.fullmatch(value):
            response.headers[name] = value
    response[UNTYPED] = "Content-Type" not in response.headers


def untyped(text: str) -> web.Response:
    """A prediction: without a Content-Type, and with an empty reason."""
    response = web.Response(reason="", body=text.encode())
    response[UNTYPED] = True
    return response


def scores_json(scores: Scores) -> str:
    """`{"label": probability, …}`, the five best, highest first, as the built-in handler writes them."""
    best = {each.label: each.score for each in scores.top(_TOP)}
    lines = ",\n".join([f"  {_quoted(label)}: {score!r}" for label, score in best.items()])
    return f"{{\n{lines}\n}}"


def cors_headers(given: TorchServeConfig) -> dict[str, str]:
    """Those of every response."""
    named = {"Origin": given.cors_allowed_origin, "Methods": given.cors_allowed_methods}
    named["Headers"] = given.cors_allowed_headers
    return {f"Access-Control-Allow-{name}": text for name, text in named.items() if text}


def common_headers(
    cors: Mapping[str, str], count: Callable[[int], None]
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """A handler of aiohttp's signal that gives every response its headers, just before it is sent.

    Args:
        cors: further ones.
        count: called with its status.
    """
    added = {**_NEVER_STORED, **cors}

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        count(response.status)
        for name, value in added.items():
            response.headers.setdefault(name, value)
        if response.get(UNTYPED):
            response.headers.popall("Content-Type", None)

    return add
