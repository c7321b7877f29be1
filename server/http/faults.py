"""The one way out for failures: exception class -> RFC 9457 `application/problem+json`.

Nothing of a library's own text, of a path or of an address reaches a client.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from batching import BatcherClosed, DeadlineExceeded, ItemFailed, QueueFull
from models.errors import TooManyPixels, UndecodablePicture, UnsupportedFormat, UnsupportedPicture

log = logging.getLogger("snapserve")

CONTENT_TYPE = "application/problem+json"
OUTCOME = web.ResponseKey("outcome", str)  # the kind of problem that a response tells of


class RequestError(Exception):
    """A request that cannot be served as it is; the message is ours and is shown to the client."""


class BadRequest(RequestError):
    """Not multipart where it says so, no file, broken base64, a parameter out of range.

    Attributes:
        hint: what to do about it; "" where the message says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class FormWithoutType(RequestError):
    """The body is a form, and the Content-Type does not say so."""


class BodyTooLarge(RequestError):
    """More bytes, or files, than allowed.

    Attributes:
        limit: most that is allowed.
        actual: what came, or None when the rest was not read.
    """

    def __init__(self, message: str, limit: int, actual: int | None) -> None:
        super().__init__(message)
        self.limit = limit
        self.actual = actual


class SlowBody(RequestError):
    """The body did not arrive in time."""


class CompressedBody(RequestError):
    """The body has a Content-Encoding."""


class UnknownModel(RequestError):
    """No model of that name is loaded."""


class NotReady(RequestError):
    """The models are still loading."""


class Leaving(RequestError):
    """The server is about to stop, and still takes requests."""


class OutOfUploadMemory(RequestError):
    """Too many bodies are being received at once."""


@dataclass(frozen=True)
class Problem:
    """What a client is told.

    Attributes:
        status: HTTP status.
        kind: last part of the problem's type, also the outcome in the metrics.
        title: the same for every problem of this kind.
        detail: about this occurrence.
        extras: further members (`limit`, `actual`, `hint`).
        headers: HTTP headers that go with it.
    """

    status: int
    kind: str
    title: str
    detail: str
    extras: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, request_id: str) -> dict[str, Any]:
        return {
            "type": f"urn:snapserve:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extras,
            "request_id": request_id,
        }


def _bad_request(error: BadRequest) -> Problem:
    extras = {"hint": error.hint} if error.hint else {}
    return Problem(400, "bad-request", "The request is not understood", str(error), extras)


def _slow_body(error: SlowBody) -> Problem:
    return Problem(408, "slow-body", "The body came too slowly", str(error))


def _too_large(error: BodyTooLarge) -> Problem:
    extras = {"limit": error.limit, "actual": error.actual}
    if error.actual is None:
        del extras["actual"]
    return Problem(413, "too-large", "The request is too large", str(error), extras)


def _too_many_pixels(error: TooManyPixels) -> Problem:
    return Problem(
        413,
        "too-many-pixels",
        "The picture has too many pixels",
        f"The picture has {error.actual:,} pixels, at most {error.limit:,} are allowed.",
        {"limit": error.limit, "actual": error.actual, "hint": "Send a smaller version of the picture."},
    )


def _unsupported_format(error: UnsupportedFormat) -> Problem:
    accepted = _in_words(error.accepted)
    hint = (
        f"This looks like {error.seen}; convert it to {accepted}."
        if error.seen
        else f"Send the bytes of a {accepted} file."
    )
    title, detail = f"Not a {accepted}", "The file is no supported picture."
    return Problem(415, "unsupported-format", title, detail, {"hint": hint})


def _in_words(formats: Sequence[str]) -> str:
    *others, last = ("WebP" if name == "WEBP" else name for name in formats)
    return f"{', '.join(others)} or {last}" if others else last


def _unsupported_picture(error: UnsupportedPicture) -> Problem:
    advice = f"; {error.advice}" if error.advice else ""
    detail = f"{error.kind[0].upper()}{error.kind[1:]} is not supported{advice}."
    return Problem(422, "unsupported-picture", "This kind of picture is not supported", detail)


def _form_without_type(error: FormWithoutType) -> Problem:
    hint = (
        "This looks like a form whose Content-Type is missing. Leave that header to the client library: "
        "it must be multipart/form-data with the boundary that the library writes."
    )
    return Problem(415, "unsupported-format", "Not a JPEG, PNG or WebP", "The body is a form.", {"hint": hint})


def _compressed_body(error: CompressedBody) -> Problem:
    hint = "Send the body without Content-Encoding; pictures are compressed already."
    return Problem(415, "compressed-body", "The body is compressed", str(error), {"hint": hint})


def _undecodable(error: UndecodablePicture) -> Problem:
    detail = f"It begins like a {error} picture, but is damaged or cut short."
    return Problem(422, "undecodable", "The picture cannot be decoded", detail)


def _unknown_model(error: UnknownModel) -> Problem:
    return Problem(404, "unknown-model", "No such model", str(error), {"hint": "GET /models lists them."})


def _unavailable(kind: str, title: str, detail: str, retry_after_s: float = 1.0) -> Problem:
    headers = {"Retry-After": str(math.ceil(retry_after_s))}
    return Problem(503, kind, title, detail, headers=headers)


def _queue_full(error: QueueFull) -> Problem:
    return _unavailable(
        "queue-full",
        "The server is full",
        "Too many pictures are waiting; try again later.",
        error.retry_after_s,
    )


def _upload_memory(error: OutOfUploadMemory) -> Problem:
    return _unavailable("queue-full", "The server is full", str(error))


def _closed(error: BatcherClosed) -> Problem:
    return _unavailable("draining", "The server is stopping", "No more requests are taken.")


def _leaving(error: Leaving) -> Problem:
    return _unavailable("draining", "The server is stopping", "Requests are still taken; send new ones elsewhere.")


def _not_ready(error: NotReady) -> Problem:
    return _unavailable("not-ready", "The server is starting", "The models are still loading.")


def _deadline(error: DeadlineExceeded) -> Problem:
    return Problem(504, "deadline-exceeded", "The deadline passed", "The answer was not ready in time.")


_HTTP = {
    404: ("There is nothing at this address.", "Pictures go to POST /classify; GET / shows the other addresses."),
    405: ("", "Pictures go to POST /classify: curl -F image=@cat.jpg sends one there."),
    417: ("The only expectation that is met is 100-continue.", "Leave the header Expect out."),
}


def _http(error: web.HTTPException) -> Problem:
    detail, hint = _HTTP.get(error.status, ("The request cannot be served.", ""))
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    if headers:
        detail = f"This address takes {headers['Allow'].replace(',', ', ')}, not the request's method."
    kind = (error.reason or "error").lower().replace(" ", "-")
    return Problem(error.status, kind, error.reason, detail, {"hint": hint} if hint else {}, headers)


def _malformed(error: Exception) -> Problem:
    return Problem(
        400, "malformed-http", "Not valid HTTP", "The body is not what Transfer-Encoding or Content-Length says."
    )


INTERNAL = Problem(
    500,
    "internal-error",
    "Internal server error",
    "The server failed on this request; its log names the request_id.",
)

TABLE: Mapping[type[BaseException], Callable[[Any], Problem]] = {
    BadRequest: _bad_request,
    SlowBody: _slow_body,
    BodyTooLarge: _too_large,
    TooManyPixels: _too_many_pixels,
    UnsupportedFormat: _unsupported_format,
    UnsupportedPicture: _unsupported_picture,
    FormWithoutType: _form_without_type,
    CompressedBody: _compressed_body,
    UndecodablePicture: _undecodable,
    UnknownModel: _unknown_model,
    QueueFull: _queue_full,
    OutOfUploadMemory: _upload_memory,
    BatcherClosed: _closed,
    NotReady: _not_ready,
    Leaving: _leaving,
    DeadlineExceeded: _deadline,
    web.HTTPException: _http,
    web.RequestPayloadError: _malformed,
    ItemFailed: lambda error: INTERNAL,
}


def problem_of(error: BaseException) -> Problem:
    """The problem that an exception is; whatever is not in the table is our fault (500)."""
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind](error)
    return INTERNAL


def log_if_ours(error: BaseException, problem: Problem, request_id: str) -> None:
    """Logs what is our fault, with the request's id; nothing else deserves a line."""
    if problem.status == 500:
        log.error("request %s failed", request_id, exc_info=error)


def problem_response(problem: Problem, request_id: str) -> web.Response:
    """The problem as an HTTP response."""
    response = web.Response(
        status=problem.status,
        body=json.dumps(problem.to_json(request_id)).encode() + b"\n",
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )
    response[OUTCOME] = problem.kind
    return response
