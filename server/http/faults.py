"""Exception class -> fault: status and text of an error, independent of a dialect.

No text of a library, no path and no address reaches a client.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from batching import DeadlineExceeded, ItemFailed, QueueFull
from models.errors import (
    CodeRefused,
    ModelError,
    StrippedImage,
    TooCostly,
    TooManyPixels,
    TooMuchMemory,
    UndecodableImage,
    UnsupportedFormat,
    UnsupportedImage,
)
from runtime.errors import (
    ChangeFailed,
    EngineDied,
    EngineStuck,
    EngineTimeout,
    EngineUnavailable,
    InvalidInput,
    LastModel,
    ModelLoading,
    ModelRaised,
    ModelRefused,
    ModelUnloaded,
    NoRoom,
    NotScalable,
    NoWorkers,
    Overloaded,
    TooManyChanges,
    TooManyModels,
    UnknownModel,
    VersionInUse,
    VersionTaken,
)

log = logging.getLogger("snapserve")


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
    """The body is a form without the Content-Type of one."""


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


class Draining(RequestError):
    """The server is stopping."""


class Leaving(RequestError):
    """The server is about to stop, and still takes requests."""


class TooManyConnections(RequestError):
    """The connection is one more than are allowed, and none is idle."""


class Unauthorized(RequestError):
    """The request has no token, or a wrong one."""


class NoModelStore(RequestError):
    """There is no folder that models could be added from."""


class OutOfUploadMemory(RequestError):
    """Too many bodies are being received at once."""


@dataclass(frozen=True)
class Fault:
    """Status and text of an error.

    Attributes:
        status: HTTP status.
        kind: in one word, also the outcome in the metrics.
        title: the same for every fault of this kind.
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


class Refusal(RequestError):
    """A fault in the format of the API that the request was sent to.

    Attributes:
        fault: that it is.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


def _bad_request(error: BadRequest) -> Fault:
    extras = {"hint": error.hint} if error.hint else {}
    return Fault(400, "bad-request", "The request is not understood", str(error), extras)


def _slow_body(error: SlowBody) -> Fault:
    return Fault(408, "slow-body", "The body came too slowly", str(error))


def _too_large(error: BodyTooLarge) -> Fault:
    extras = {"limit": error.limit, "actual": error.actual}
    if error.actual is None:
        del extras["actual"]
    return Fault(413, "too-large", "The request is too large", str(error), extras)


_SMALLER = "Send a smaller version of the image."


def _too_many_pixels(error: TooManyPixels) -> Fault:
    return Fault(
        413,
        "too-many-pixels",
        "The image has too many pixels",
        f"The image has {error.actual:,} pixels, at most {error.limit:,} are allowed.",
        {"limit": error.limit, "actual": error.actual, "hint": _SMALLER},
    )


def _too_costly(error: TooCostly) -> Fault:
    return Fault(
        413,
        "too-costly",
        "The image takes too long to decode",
        f"The image would take about {error.actual:,.0f} ms to decode, at most {error.limit:,.0f} are allowed.",
        {"limit": round(error.limit), "actual": round(error.actual), "hint": _SMALLER},
    )


def _too_much_memory(error: TooMuchMemory) -> Fault:
    limit, actual = error.limit // 1_000_000, math.ceil(error.actual / 1_000_000)
    return Fault(
        413,
        "too-much-memory",
        "The image takes too much memory to decode",
        f"The image would take about {actual:,} MB to decode, {limit:,} are there for all images.",
        {"limit": error.limit, "actual": error.actual, "hint": _SMALLER},
    )


def _unsupported_format(error: UnsupportedFormat) -> Fault:
    accepted = _in_words(error.accepted)
    hint = (
        f"This looks like {error.seen}; convert it to {accepted}."
        if error.seen
        else f"Send the bytes of a {accepted} file."
    )
    title, detail = f"Not a {accepted}", "The file is no supported image."
    return Fault(415, "unsupported-format", title, detail, {"hint": hint})


def _in_words(formats: Sequence[str]) -> str:
    *others, last = ("WebP" if name == "WEBP" else name for name in formats)
    return f"{', '.join(others)} or {last}" if others else last


def _unsupported_image(error: UnsupportedImage) -> Fault:
    advice = f"; {error.advice}" if error.advice else ""
    detail = f"{error.kind[0].upper()}{error.kind[1:]} is not supported{advice}."
    return Fault(422, "unsupported-picture", "This kind of image is not supported", detail)


def _form_without_type(error: FormWithoutType) -> Fault:
    hint = (
        "This looks like a form whose Content-Type is missing. Leave that header to the client library: "
        "it must be multipart/form-data with the boundary that the library writes."
    )
    return Fault(415, "unsupported-format", "Not a JPEG, PNG or WebP", "The body is a form.", {"hint": hint})


def _compressed_body(error: CompressedBody) -> Fault:
    hint = "Send the body without Content-Encoding; images are compressed already."
    return Fault(415, "compressed-body", "The body is compressed", str(error), {"hint": hint})


def _stripped(error: StrippedImage) -> Fault:
    detail = "Its NUL, CR and LF bytes are missing: curl -d removes them, --data-binary and -F do not."
    return Fault(422, "undecodable", "The image cannot be decoded", detail)


def _undecodable(error: UndecodableImage) -> Fault:
    detail = f"It begins like a {error} image, but is damaged or cut short."
    return Fault(422, "undecodable", "The image cannot be decoded", detail)


def _unknown_model(error: UnknownModel) -> Fault:
    return Fault(404, "unknown-model", "No such model", str(error), {"hint": "GET /models lists them."})


def _invalid_input(error: InvalidInput) -> Fault:
    return Fault(422, "invalid-input", "The model does not take this", str(error))


def _model_raised(error: ModelRaised) -> Fault:
    return Fault(500, "model-raised", "The model raised on this input", str(error))


def _conflict(kind: str, title: str) -> Callable[[Exception], Fault]:
    return lambda error: Fault(409, kind, title, str(error))


def _unauthorized(error: Unauthorized) -> Fault:
    hint = {"hint": "Send Authorization: Bearer TOKEN; the server has printed the token, or the file that has it."}
    headers = {"WWW-Authenticate": "Bearer"}
    return Fault(401, "unauthorized", "The token is missing or wrong", str(error), hint, headers)


def _refused(error: ModelRefused) -> Fault:
    return Fault(422, "model-refused", "The model is not served", str(error))


def _change_failed(error: ChangeFailed) -> Fault:
    return _unavailable("change-failed", "The models were not changed", str(error), 5.0)


def _no_room(error: NoRoom) -> Fault:
    return _unavailable("no-memory", "There is no memory for the model", str(error), 10.0)


def _does_not_load(error: ModelError) -> Fault:
    return Fault(422, "model-error", "The model does not load", "Its file is damaged, or is not what it says.")


_NO_CODE = "It is written in Python, which this server runs with the option --allow-code only."


def _code_refused(error: CodeRefused) -> Fault:
    return Fault(403, "code-refused", "The model is a program", _NO_CODE)


def _unavailable(kind: str, title: str, detail: str, retry_after_s: float = 1.0) -> Fault:
    headers = {"Retry-After": str(math.ceil(retry_after_s))}
    return Fault(503, kind, title, detail, headers=headers)


def _queue_full(error: QueueFull) -> Fault:
    return _unavailable(
        "queue-full",
        "The server is full",
        "Too many images are waiting; try again later.",
        error.retry_after_s,
    )


def _overloaded(error: Overloaded) -> Fault:
    return _unavailable(
        "overloaded",
        "The server is full",
        "The answer would come too late; try again later.",
        error.retry_after_s,
    )


def _upload_memory(error: OutOfUploadMemory) -> Fault:
    return _unavailable("queue-full", "The server is full", str(error))


def _connections(error: TooManyConnections) -> Fault:
    return _unavailable("too-many-connections", "The server is full", "Too many connections are open.")


def _draining(error: Draining) -> Fault:
    return _unavailable("draining", "The server is stopping", "No more requests are taken.")


def _unloaded(error: ModelUnloaded) -> Fault:
    return _unavailable("model-unloaded", "The model was unloaded", "GET /models lists what is served.")


def _leaving(error: Leaving) -> Fault:
    return _unavailable("draining", "The server is stopping", "Requests are still taken; send new ones elsewhere.")


def _not_ready(error: ModelLoading) -> Fault:
    return _unavailable(
        "not-ready", "The server is starting", "The models are still loading.", error.retry_after_s
    )


def _no_workers(error: NoWorkers) -> Fault:
    return _unavailable("no-workers", "The model has no workers", str(error), 10.0)


def _stuck(error: EngineStuck) -> Fault:
    return _unavailable(
        "engine-stuck", "The engine does not answer", "It is replaced; try again later.", error.retry_after_s
    )


def _engine_unavailable(error: EngineUnavailable) -> Fault:
    detail = "Its process ended; try again later."
    return _unavailable("engine-unavailable", "The model is being restarted", detail, error.retry_after_s)


def _deadline(error: DeadlineExceeded) -> Fault:
    return Fault(504, "deadline-exceeded", "The deadline passed", "The answer was not ready in time.")


_HTTP = {
    404: "There is nothing at this address.",
    417: "The only expectation that is met is 100-continue.",
}


def _http(error: web.HTTPException) -> Fault:
    detail = _HTTP.get(error.status, "The request cannot be served.")
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    if headers:
        detail = f"This address takes {headers['Allow'].replace(',', ', ')}, not the request's method."
    kind = (error.reason or "error").lower().replace(" ", "-")
    hints = {"hint": "Leave the header Expect out."} if error.status == 417 else {}
    return Fault(error.status, kind, error.reason, detail, hints, headers)


def _malformed(error: Exception) -> Fault:
    return Fault(
        400, "malformed-http", "Not valid HTTP", "The body is not what Transfer-Encoding or Content-Length says."
    )


INTERNAL = Fault(
    500,
    "internal-error",
    "Internal server error",
    "The server failed on this request; its log names the request_id.",
)

# 422: proxies and clients repeat requests that end in 5xx, and each repetition would end an engine.
_CAUSES: Mapping[type[BaseException], Callable[[Any], Fault]] = {
    EngineDied: lambda error: Fault(
        422,
        "engine-crash",
        "The model cannot process this image",
        "The model's process ended while it ran the image.",
    ),
    EngineTimeout: lambda error: Fault(
        422,
        "engine-timeout",
        "The model takes too long for this image",
        "The model was stopped at its time limit.",
    ),
    EngineUnavailable: _engine_unavailable,
    ModelRaised: _model_raised,
}


def _item_failed(error: ItemFailed) -> Fault:
    cause = error.__cause__
    known = next((kind for kind in _CAUSES if isinstance(cause, kind)), None)
    return _CAUSES[known](cause) if known else INTERNAL


TABLE: Mapping[type[BaseException], Callable[[Any], Fault]] = {
    BadRequest: _bad_request,
    SlowBody: _slow_body,
    BodyTooLarge: _too_large,
    TooManyPixels: _too_many_pixels,
    TooCostly: _too_costly,
    TooMuchMemory: _too_much_memory,
    UnsupportedFormat: _unsupported_format,
    UnsupportedImage: _unsupported_image,
    FormWithoutType: _form_without_type,
    CompressedBody: _compressed_body,
    StrippedImage: _stripped,
    UndecodableImage: _undecodable,
    UnknownModel: _unknown_model,
    CodeRefused: _code_refused,
    ModelError: _does_not_load,
    VersionTaken: _conflict("version-taken", "That version is there"),
    LastModel: _conflict("last-model", "That is the last model"),
    VersionInUse: _conflict("version-in-use", "That version is in use"),
    TooManyModels: _conflict("too-many-models", "There are too many models"),
    TooManyChanges: _conflict("too-many-changes", "Other changes are under way"),
    NoModelStore: _conflict("no-model-store", "The server has no model store"),
    Unauthorized: _unauthorized,
    ModelRefused: _refused,
    ChangeFailed: _change_failed,
    NotScalable: _conflict("not-scalable", "The engine has no processes"),
    NoRoom: _no_room,
    InvalidInput: _invalid_input,
    QueueFull: _queue_full,
    Overloaded: _overloaded,
    OutOfUploadMemory: _upload_memory,
    TooManyConnections: _connections,
    ModelUnloaded: _unloaded,
    ModelLoading: _not_ready,
    NoWorkers: _no_workers,
    EngineStuck: _stuck,
    EngineUnavailable: _engine_unavailable,
    Draining: _draining,
    Leaving: _leaving,
    DeadlineExceeded: _deadline,
    Refusal: lambda error: error.fault,
    web.HTTPException: _http,
    web.RequestPayloadError: _malformed,
    ItemFailed: _item_failed,
}


def fault_of(error: BaseException, hint: str = "") -> Fault:
    """The fault that an exception is; what is not in the table is internal (500).

    Args:
        error: that a request met.
        hint: where requests go, for one at a wrong address or with a wrong method.
    """
    for kind in type(error).__mro__:
        if kind in TABLE:
            fault = TABLE[kind](error)
            lost = hint and fault.status in (404, 405) and isinstance(error, web.HTTPException)
            more = "; GET / shows the other addresses." if fault.status == 404 else "."
            return dataclasses.replace(fault, extras={"hint": hint.rstrip(".") + more}) if lost else fault
    return INTERNAL


def log_if_internal(error: BaseException, fault: Fault, request_id: str) -> None:
    """Logs an error of the server's own, with the request's id. A Refusal without a cause is none."""
    if fault.status == 500 and not (isinstance(error, Refusal) and error.__cause__ is None):
        log.error("request %s failed", request_id, exc_info=error)
