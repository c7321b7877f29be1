"""What aiohttp does below the application, made ours: its own 400s, time limits, half-closed clients, closing."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from server.config import LimitConfig
from server.http.connections import Connections
from server.http.faults import INTERNAL, Fault, TooManyConnections, fault_of
from server.http.half_closed import HalfClosed
from server.http.problem import problem_response
from snapserve import __version__

log = logging.getLogger("snapserve")

SERVER = f"snapserve/{__version__}"
Refuse = Callable[[Fault, str], web.Response]

# Two different numbers: by them alone aiohttp's parser tells which of the two was exceeded.
MAX_ADDRESS = 8192  # bytes of a request's path and query
MAX_HEADER = 8190  # bytes of a header's name, and of its value
MAX_HEADERS = 128
# Bytes that the parser gets at once: in chunks of one byte they take it 0.6 ms, and their reader as long.
_SLICE = 16_384
_AT_ONCE_S = 0.001  # for the slices of what has arrived; what takes longer waits for its turns
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


class Connection(web.RequestHandler):
    """One client's connection.

    Attributes:
        retry_at: monotonic time at which its client is to come back that was refused; infinite if none was.
    """

    __slots__ = (
        "_answered",
        "_connections",
        "_ended",
        "_half_closed",
        "_header_timer",
        "_headers_begun",
        "_is_tls",
        "_last_body",
        "_limits",
        "_refuse",
        "_rest",
        "_takes_turns",
        "_write_timer",
        "retry_at",
        "spare",
    )

    def __init__(
        self,
        manager: web.Server,
        connections: Connections,
        limits: LimitConfig,
        refuse: Refuse = problem_response,
        **options: Any,
    ) -> None:
        """Creates it.

        Args:
            manager: of aiohttp.
            connections: among which it is counted.
            limits: of time.
            refuse: makes the response to a request that no application sees, in the format of the port.
            options: of aiohttp.
        """
        super().__init__(
            manager,
            max_line_size=MAX_ADDRESS,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
            **options,
        )
        self.spare = False
        self._answered = 0
        self._connections = connections
        self.retry_at = math.inf
        self._ended = False
        self._half_closed: HalfClosed | None = None
        self._headers_begun = self._is_tls = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._last_body: StreamReader | None = None
        self._limits = limits
        self._refuse = refuse
        self._rest = b""
        self._takes_turns = False
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counts the connection as open; its first byte has `header_timeout_s` to arrive."""
        super().connection_made(transport)
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        # Bytes that the kernel does not take are bytes that the client does not read: `pause_writing` then. A
        # transport of TLS pauses at so many bytes, others at more.
        cast(asyncio.WriteTransport, transport).set_write_buffer_limits(high=1 if self._is_tls else 0)
        self._header_timer = self._loop.call_later(self._limits.header_timeout_s, self.abort)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops the timers and counts the connection as closed."""
        self._rest = b""
        self._stop_header_timer()
        self._stop_write_timer()
        if self._half_closed is not None:
            self._half_closed.stop()
        super().connection_lost(exc)
        self._connections.remove(self)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, what is much in slices."""
        if not self._rest and len(data) <= _SLICE:
            self._feed(data)
            return
        if data:
            self._rest += data
            if not self._connections.turns.busy:
                self._feed_at_once()
        else:  # aiohttp has room again for what its parser has kept, and what follows
            super().data_received(data)
        if self._rest and self.transport is not None:
            self.transport.pause_reading()
            if not self._takes_turns:
                self._takes_turns = True
                self._connections.turns.add(self._feed_next)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp closes
        """The client sends nothing more. A client that has sent a whole request gets its response.

        Returns:
            Whether the connection stays open; one of TLS has ended in both directions.
        """
        if self._is_tls:
            return False
        if self._rest:
            self._ended = True
            return True
        if self._is_answered() or self._last_body is None or not self._last_body.is_eof():
            return False
        if self._half_closed is None and self.transport is not None:
            self._half_closed = HalfClosed(self.transport)
            self.transport = cast(asyncio.Transport, self._half_closed)
            if not self._has_begun_response():
                self._half_closed.probe()
        return True

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Reads again, unless it never stopped: aiohttp asks for it with every piece that a handler reads."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        """The client does not read its responses: it has `body_timeout_s` to take what is waiting."""
        super().pause_writing()
        if self.transport is not None:
            self._write_timer = self._loop.call_later(self._limits.body_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        self._stop_write_timer()
        super().resume_writing()

    def is_spent(self, most_requests: int) -> bool:
        """Whether so many requests have come that it is to be closed, and none of them waits."""
        return self._request_count >= most_requests and not self._messages

    def refuse(self) -> None:
        """Closes, with a response that says that there are too many connections."""
        if self.transport is not None:
            self.transport.write(_raw_response(self._refuse, fault_of(TooManyConnections())))
        self.force_close()

    def abort(self) -> None:
        """Drops the connection and what was still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def close_if_idle(self, idle_s: float = 0.0) -> bool:
        """Closes if no request is being answered or received, and none was in the last `idle_s` seconds.

        aiohttp's own `close` would also stop reading the body of the request that is being answered.
        """
        idle_since = self._next_keepalive_close_time - self.keepalive_timeout
        if not self._awaits_request() or self._headers_begun or self._loop.time() < idle_since + idle_s:
            return False
        self._close_now()
        return True

    def close_unless_answering(self) -> bool:
        """Closes if no request that has arrived waits for its response."""
        if not self._is_answered():
            return False
        self._close_now()
        return True

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
        return _plain_response(self._refuse, _refusal(exc) if status < 500 else INTERNAL, request_id)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends an answer; what aiohttp raised before any middleware ran becomes a problem first."""
        if isinstance(resp, web.HTTPException):
            resp = _plain_response(self._refuse, fault_of(resp), new_request_id())
        if self.spare or (self._half_closed is not None and not self._messages):
            resp.force_close()
        finished = await super().finish_response(request, resp, start_time)
        self._answered += 1
        if self._half_closed is not None and not self._messages:  # since when the response was begun, perhaps
            self.close()
        return finished

    def _feed(self, data: bytes) -> None:
        """Feeds the parser; from a request's first byte on its headers have `header_timeout_s` to end."""
        awaits_request, requests = self._awaits_request(), self._request_count
        super().data_received(data)
        if self._request_count != requests:
            self._last_body = self._messages[-1][1]
            self._stop_header_timer()
        elif awaits_request and data and not self._headers_begun:
            self._stop_header_timer()
            self._headers_begun = True
            self._header_timer = self._loop.call_later(self._limits.header_timeout_s, self._headers_too_slow)

    def _feed_at_once(self) -> None:
        """Feeds slices until they have taken long: small chunks, many requests."""
        ends = time.monotonic() + _AT_ONCE_S
        while self._rest and not self._is_paused() and time.monotonic() < ends:
            self._feed_slice()

    def _feed_next(self) -> bool:
        """Feeds a slice; returns whether to be called again."""
        if self.transport is None:
            self._rest = b""
        else:
            self.transport.pause_reading()  # aiohttp may have resumed it
            if not self._is_paused():
                self._feed_slice()
        if self._rest and not self._is_paused():
            return True
        self._takes_turns = False
        if not self._rest:
            self._end_turns()
        return False

    def _end_turns(self) -> None:
        """Everything that had been read is parsed."""
        if self.transport is None:
            return
        if self._ended:
            if not self.eof_received():
                self.transport.close()
        elif not self._is_paused():
            self.transport.resume_reading()

    def _feed_slice(self) -> None:
        data, self._rest = self._rest[:_SLICE], self._rest[_SLICE:]
        self._feed(data)

    def _is_paused(self) -> bool:
        """Whether aiohttp has paused reading: a body is not read yet, or requests wait."""
        return self._reading_paused or self._buffer_paused

    def _is_answered(self) -> bool:
        return self._request_count == self._answered

    def _has_begun_response(self) -> bool:
        if self._current_request is not None:
            return bool(self._current_request.writer.output_size)
        return self._request_in_progress

    def _close_now(self) -> None:
        self.close()
        if self.transport is not None:
            self.transport.close()

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
            self._headers_begun = False

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _headers_too_slow(self) -> None:
        self._header_timer = None
        if self.transport is not None:
            self.transport.write(_raw_response(self._refuse, _slow_headers(self._limits.header_timeout_s)))
        self.force_close()


def check_place(request: web.BaseRequest) -> None:
    """Raises TooManyConnections for a request on a spare connection."""
    connection = request.protocol
    if isinstance(connection, Connection) and connection.spare:
        raise TooManyConnections


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


def _plain_response(refuse: Refuse, fault: Fault, request_id: str) -> web.Response:
    response = refuse(fault, request_id)
    response.headers["Server"] = SERVER
    response.headers["X-Request-ID"] = request_id
    response.force_close()
    return response


def _raw_response(refuse: Refuse, fault: Fault) -> bytes:
    response = _plain_response(refuse, fault, new_request_id())
    body = cast(bytes, response.body)
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = (
        f"HTTP/1.1 {response.status} {response.reason or fault.title}\r\n{headers}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
