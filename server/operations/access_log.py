"""A line for every request."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from server.operations.line_writer import LineWriter, line_writer

FORMATS = ("text", "json")

_LONGEST = 256  # characters of what a client chooses: a line has less than 4,096 bytes, which a pipe keeps whole
_PROBES = ("healthz", "readyz", "metrics")
_CLIENT_LEFT = 499  # no answer was sent; nginx's number for it
_STDERR = 2

OUTCOME = web.ResponseKey("outcome", str)  # the kind of fault that a response tells of
MODEL = web.RequestKey("model", str)
IMAGES = web.RequestKey("images", int)
STARTED = web.RequestKey("started", float)  # monotonic time


class AccessLog(AbstractAccessLogger):
    """Makes the lines. What a client chooses is written in ASCII, with everything else escaped."""

    __slots__ = ("_client_of", "_line", "_probes", "_writer")

    def __init__(
        self,
        format: str,
        probes: bool,
        client_of: Callable[[web.BaseRequest], str],
        writer: LineWriter | None = None,
    ) -> None:
        """Creates it.

        Args:
            format: one of `FORMATS`.
            probes: whether /healthz, /readyz and /metrics get lines, too.
            client_of: tells the client's address.
            writer: of the lines; to the standard error where there is none.
        """
        self._line: Callable[[dict[str, Any]], str] = _json_line if format == "json" else _text_line
        self._probes = probes
        self._client_of = client_of
        self._writer = writer or line_writer(_STDERR)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Writes the line of a request that was answered; `time` in seconds."""
        outcome = response.get(OUTCOME) or ("ok" if response.status < 400 else "all-failed")
        length = response.body_length
        self._write(request, response.status, outcome, length, time, response.headers.get("X-Request-ID", "-"))

    def log_left(self, request: web.BaseRequest, request_id: str) -> None:
        """Writes the line of a request whose client did not wait for the answer."""
        self._write(request, _CLIENT_LEFT, "client-left", 0, 0.0, request_id)

    def _write(
        self, request: web.BaseRequest, status: int, outcome: str, length: int, time: float, request_id: str
    ) -> None:
        started = request.get(STARTED)  # uvloop's clock, which `time` is of, counts whole milliseconds
        seconds = time if started is None else monotonic() - started
        path = request.rel_url.raw_path
        if not self._probes and path.strip("/").rpartition("/")[2] in _PROBES:
            return
        self._writer.offer(
            self._line(
                {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "client": self._client_of(request),
                    "method": request.method[:32],
                    "path": path[:_LONGEST],
                    "status": status,
                    "outcome": outcome,
                    "model": request.get(MODEL),
                    "images": request.get(IMAGES, 0),
                    "duration_ms": round(seconds * 1000, 1),
                    "bytes": length,
                    "request_id": request_id,
                    "user_agent": request.headers.get("User-Agent", "")[:_LONGEST],
                }
            )
        )


def _json_line(facts: dict[str, Any]) -> str:
    return json.dumps(facts)


def _text_line(facts: dict[str, Any]) -> str:
    return (
        f"{facts['time']} {facts['client']} {_word(facts['method'])} {_word(facts['path'])} {facts['status']} "
        f"{facts['outcome']} model={_word(facts['model'] or '-')} images={facts['images']} "
        f"{facts['duration_ms']}ms {facts['bytes']}B id={_word(facts['request_id'])} "
        f"{json.dumps(facts['user_agent'])}"
    )


def _word(text: str) -> str:
    """A text without anything that ends a word or a line."""
    return json.dumps(text)[1:-1].replace(" ", "%20")
