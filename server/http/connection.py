"""What aiohttp does below the application, made ours: its own 400s, header time limit, closing when idle."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from server.config import LimitConfig
from server.http.faults import INTERNAL, Fault, fault_of
from server.http.problem import CONTENT_TYPE, problem_json, problem_response
from snapserve import __version__

log = logging.getLogger("snapserve")

SERVER = f"snapserve/{__version__}"

# Two different numbers, as aiohttp's parser tells which of the two was passed by nothing else.
MAX_ADDRESS = 8192  # bytes of a request's path and query
MAX_HEADER = 8190  # bytes of a header's name, and of its value
MAX_HEADERS = 128
_TOO_MANY_HEADERS = "Too many headers received"  # what aiohttp's parser calls it
_TLS = "Received HTTPS traffic on an HTTP port"

_MALFORMED = Fault(
    400, "malformed-http", "Not valid HTTP", "The request line or a header of the request is not valid HTTP/1.1."
)
_HTTPS = Fault(
    400,
    "malformed-http",
    "Not valid HTTP",
    "The request is TLS, and this port speaks plain HTTP.",
    {"hint": "Write http:// in place of https://, or put a proxy that ends TLS in front."},
)
_LONG_ADDRESS = Fault(
    414,
    "address-too-long",
    "The address is too long",
    f"The path and query of a request may have {MAX_ADDRESS:,} bytes.",
    {"limit": MAX_ADDRESS, "hint": "An image goes into the body of a POST, not into the address."},
)
_LONG_HEADER = Fault(
    431,
    "header-too-long",
    "A header is too long",
    f"The name and the value of a header may have {MAX_HEADER:,} bytes each.",
    {"limit": MAX_HEADER, "hint": "Look for a long cookie or token; a proxy in front can leave it out."},
)
_MANY_HEADERS = Fault(
    431,
    "too-many-headers",
    "There are too many headers",
    f"A request may have {MAX_HEADERS} headers.",
    {"limit": MAX_HEADERS, "hint": "A proxy in front can leave out those that it adds."},
)


def new_request_id() -> str:
    """16 hexadecimal digits. Not from `os.urandom`, whose system call would hand the GIL to another thread."""
    return f"{random.getrandbits(64):016x}"


class Connections:
    """The connections that are open."""

    def __init__(self, on_closed: Callable[[], None] | None = None) -> None:
        """Creates an empty set.

        Args:
            on_closed: called after a connection was closed.
        """
        self._on_closed = on_closed
        self._open: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Counts a connection as open."""
        self._open.add(connection)
        self._empty.clear()

    def remove(self, connection: Connection) -> None:
        """Counts a connection as closed."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()
        if self._on_closed:
            self._on_closed()

    def close_idle(self) -> None:
        """Closes every connection on which no request is under way or half received."""
        for connection in list(self._open):
            connection.close_if_idle()

    def abort(self) -> None:
        """Drops every connection."""
        for connection in list(self._open):
            connection.abort()

    async def wait_closed(self) -> None:
        """Waits until no connection is open."""
        await self._empty.wait()


class Connection(web.RequestHandler):
    """One client's connection.

    Attributes:
        retry_at: monotonic time at which its client is to come back that was refused; infinite if none was.
    """

    __slots__ = ("_connections", "_header_timer", "_limits", "_write_timer", "retry_at")

    def __init__(self, manager: web.Server, connections: Connections, limits: LimitConfig, **options: Any) -> None:
        super().__init__(
            manager,
            max_line_size=MAX_ADDRESS,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
            **options,
        )
        self._connections = connections
        self._limits = limits
        self.retry_at = math.inf
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counts the connection as open."""
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops the timers and counts the connection as closed."""
        self._stop_header_timer()
        self._stop_write_timer()
        super().connection_lost(exc)
        self._connections.remove(self)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser; from a request's first byte on its headers have `header_timeout_s` to end."""
        awaits_request, requests = self._awaits_request(), self._request_count
        super().data_received(data)
        if self._request_count != requests:
            self._stop_header_timer()
        elif awaits_request and self._header_timer is None:
            self._header_timer = self._loop.call_later(self._limits.header_timeout_s, self._headers_too_slow)

    def pause_writing(self) -> None:
        """The client does not read its answers: it has `body_timeout_s` to begin again."""
        super().pause_writing()
        self._write_timer = self._loop.call_later(self._limits.body_timeout_s, self.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stop_write_timer()
        super().resume_writing()

    def is_spent(self, most_requests: int) -> bool:
        """Whether so many requests have come that it is to be closed, and none of them waits."""
        return self._request_count >= most_requests and not self._messages

    def abort(self) -> None:
        """Drops the connection and what was still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def close_if_idle(self) -> None:
        """Closes unless a request is being answered or its headers have begun to arrive.

        aiohttp's own `close` would also stop reading the body of the request that is being answered.
        """
        if self._awaits_request() and self._header_timer is None and not self._messages:
            self.close()
            if self.transport is not None:
                self.transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what the parser refuses, and what escaped the application."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        request_id = new_request_id()
        if status >= 500:
            log.error("request %s failed", request_id, exc_info=exc)
        return _plain_response(_refusal(exc) if status < 500 else INTERNAL, request_id)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends an answer; what aiohttp raised before any middleware ran becomes a problem first."""
        if isinstance(resp, web.HTTPException):
            resp = _plain_response(fault_of(resp), new_request_id())
        return await super().finish_response(request, resp, start_time)

    def _awaits_request(self) -> bool:
        if self._request_in_progress or self._messages:
            return False
        # Between a request's headers and the start of its handler the waiter is done, but still there; uvloop may
        # deliver the first part of the body in that moment.
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _headers_too_slow(self) -> None:
        self._header_timer = None
        if self.transport is not None:
            self.transport.write(_raw_response(_slow_headers(self._limits.header_timeout_s)))
        self.force_close()


def _slow_headers(seconds: float) -> Fault:
    detail = f"The request's headers did not arrive within {seconds:g} s."
    return Fault(408, "slow-headers", "The headers came too slowly", detail)


def _refusal(error: BaseException | None) -> Fault:
    """What the parser refuses, told apart."""
    if isinstance(error, LineTooLong):
        return _LONG_ADDRESS if error.args[1] == MAX_ADDRESS else _LONG_HEADER
    if isinstance(error, BadHttpMessage) and error.message == _TOO_MANY_HEADERS:
        return _MANY_HEADERS
    return _HTTPS if isinstance(error, BadHttpMessage) and error.message == _TLS else _MALFORMED


def _plain_response(fault: Fault, request_id: str) -> web.Response:
    response = problem_response(fault, request_id)
    response.headers["Server"] = SERVER
    response.headers["X-Request-ID"] = request_id
    response.force_close()
    return response


def _raw_response(fault: Fault) -> bytes:
    request_id = new_request_id()
    body = json.dumps(problem_json(fault, request_id)).encode() + b"\n"
    head = (
        f"HTTP/1.1 {fault.status} {fault.title}\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nServer: {SERVER}\r\nX-Request-ID: {request_id}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
