"""HTTP/1.1 connections that send bytes which were built before: as little work per request as can be."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

_LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nX-Request-ID: *([^\r\n]*)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nRetry-After: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nConnection: *close", re.IGNORECASE)


@dataclass(slots=True)
class Exchange:
    """A request on its way.

    Attributes:
        due: monotonic time at which it was to be sent.
        question: which image it carries.
        request_id: its X-Request-ID.
        head: bytes up to the body.
        body: the body's bytes.
        is_retry: it was refused before.
    """

    due: float
    question: int
    request_id: str
    head: bytes
    body: bytes
    is_retry: bool = False


class Reply(NamedTuple):
    """An answer as it came; `request_id` is the header's, and so is `retry_after_s`, None without one."""

    status: int
    request_id: str
    body: bytes
    retry_after_s: int | None = None


class Receiver(Protocol):
    """Is told of every exchange: that it is being sent, then one of the two others."""

    def sending(self, exchange: Exchange) -> None:
        """The request is being sent."""

    def answered(self, exchange: Exchange, reply: Reply) -> float | None:
        """The answer has come. Returns the seconds after which to send the request again, or None."""

    def failed(self, exchange: Exchange, kind: str) -> None:
        """There will be no answer."""


class Connections:
    """Connections that are kept alive, opened when all others are busy."""

    def __init__(self, host: str, port: int, limit: int, timeout_s: float, receiver: Receiver) -> None:
        """Opens nothing yet.

        Args:
            host: of the server.
            port: of the server.
            limit: most connections; further requests wait, and their latency grows.
            timeout_s: from sending to the end of the answer.
            receiver: is told what becomes of the requests.
        """
        self.timeout_s = timeout_s
        self.receiver = receiver
        self.loop = asyncio.get_running_loop()
        self._address, self._limit = (host, port), limit
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[Exchange] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    def send(self, exchange: Exchange) -> None:
        """Sends a request at once if a connection is idle, else on the first one that is."""
        if self._idle:
            self._idle.pop().send(exchange)
            return
        self._waiting.append(exchange)
        if len(self._open) + len(self._opening) < self._limit:
            task = self.loop.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        try:
            await self.loop.create_connection(lambda: Connection(self), *self._address)
        except OSError as error:
            if self._waiting:
                self.receiver.failed(self._waiting.popleft(), f"connect: {type(error).__name__}")
            if self._waiting and not self._open and len(self._opening) == 1:
                self.send(self._waiting.popleft())  # no other task would open a connection for it

    def ready(self, connection: Connection) -> None:
        """Gives a connection its next request, or keeps it for later."""
        self._open.add(connection)
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def gone(self, connection: Connection) -> None:
        """Forgets a connection, and opens another one for a waiting request."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting and not self._opening:
            self.send(self._waiting.popleft())

    def close(self) -> None:
        """Ends all connections."""
        self._waiting.clear()
        for task in self._opening:
            task.cancel()
        for connection in list(self._open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._exchange: Exchange | None = None
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is ready for its first request."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._connections.ready(self)

    def send(self, exchange: Exchange) -> None:
        """Sends a request; only while no other is under way."""
        self._exchange = exchange
        self._timer = self._connections.loop.call_later(self._connections.timeout_s, self._time_out)
        self._connections.receiver.sending(exchange)
        self._transport.write(exchange.head)
        self._transport.write(exchange.body)

    def data_received(self, data: bytes) -> None:
        """Reads an answer."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[: end + 2])
        length = _LENGTH.search(head)
        if length is None or self._exchange is None:
            self._fail("unreadable answer")
        elif (left := end + 4 + int(length[1]) - len(self._buffer)) < 0:
            self._fail("more than one answer")
        elif left == 0:
            request_id = _REQUEST_ID.search(head)
            echoed = request_id[1].decode("latin-1") if request_id else ""
            retry = _RETRY_AFTER.search(head)
            after_s = int(retry[1]) if retry else None
            reply = Reply(int(head[9:12]), echoed, bytes(self._buffer[end + 4 :]), after_s)
            self._answer(reply, closes=_CLOSE.search(head) is not None)

    def _answer(self, reply: Reply, closes: bool) -> None:
        exchange = self._end()
        assert exchange is not None
        again_s = self._connections.receiver.answered(exchange, reply)
        if again_s is not None:
            # The client keeps its connection for the retry.
            self._connections.loop.call_later(again_s, self._send_again, exchange)
        elif not closes:
            self._connections.ready(self)
        if closes:
            self._transport.close()

    def _send_again(self, exchange: Exchange) -> None:
        exchange.due, exchange.is_retry = time.monotonic(), True
        if self._transport.is_closing():
            self._connections.send(exchange)
        else:
            self.send(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the request that is under way."""
        if exchange := self._end():
            self._connections.receiver.failed(exchange, "connection lost")
        self._connections.gone(self)

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def _time_out(self) -> None:
        self._fail("timeout")

    def _fail(self, kind: str) -> None:
        if exchange := self._end():
            self._connections.receiver.failed(exchange, kind)
        self._transport.abort()

    def _end(self) -> Exchange | None:
        """Takes the exchange out, so that nothing can end it a second time."""
        exchange, self._exchange = self._exchange, None
        self._buffer = bytearray()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return exchange
