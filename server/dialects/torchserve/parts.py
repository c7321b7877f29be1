"""A response that is begun while the batch of its request still runs."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import web

from runtime.inputs import Part
from server.dialects.torchserve.replies import add_headers, allowed_status
from server.http.connection import SERVER
from server.http.exchange import Exchange

_WITHOUT_BODY = (204, 304)  # RFC 9110, 6.4.1: what follows their headers is taken for the next response
MOST_UNSENT = 8_000_000  # bytes of parts that a client has not read yet; a slower one loses its connection


class PartsResponse(web.StreamResponse):
    """Chunks of a body, one for each part, sent as they come."""

    def __init__(self, exchange: Exchange, first: Part) -> None:
        """Begins with the status and headers of the first part; `add` sends it, too."""
        super().__init__(status=allowed_status(first.status), reason="")
        add_headers(self, first.headers, "")
        self.headers["Server"], self.headers["X-Request-ID"] = SERVER, exchange.id
        self.enable_chunked_encoding()
        self._asker = exchange.request
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._is_over = self._is_broken = False
        self._sender: asyncio.Task[None] | None = None

    def add(self, body: bytes) -> None:
        """Sends a part when those before it are sent; what comes after the client has left is dropped."""
        if self._is_over:
            return
        if self.status in _WITHOUT_BODY:
            body = b""
        self._unsent.append(body)
        self._unsent_bytes += len(body)
        if self._unsent_bytes > MOST_UNSENT:
            self._end()
        elif self._sender is None:
            self._sender = asyncio.ensure_future(self._send())

    def break_off(self) -> None:
        """Ends it without its last chunk: the client sees that it is not whole."""
        self._is_broken = True

    async def write_eof(self, data: bytes = b"") -> None:
        """Sends what is left, and the end. Raises ConnectionError for a response that was broken off."""
        if self._sender is not None:
            await self._sender
        if self._is_broken:
            self._end()
        if self._is_over:
            raise ConnectionResetError("the response was not sent as a whole")
        await super().write_eof(data)

    async def _send(self) -> None:
        try:
            await self.prepare(self._asker)
            while self._unsent:
                body = self._unsent.popleft()
                await self.write(body)
                self._unsent_bytes -= len(body)
        except ConnectionError:
            self._end()
        finally:
            self._sender = None

    def _end(self) -> None:
        self._is_over = True
        self._unsent.clear()
        if self._asker.transport is not None:
            self._asker.transport.abort()


class PartReceiver:
    """Takes the parts of a request's response.

    Attributes:
        response: that was begun; None before the first part.
        too_long: bytes of a part that is longer than allowed, at which the response ends; 0: of none.
    """

    def __init__(self, exchange: Exchange, most_bytes: int) -> None:
        """Creates it for a request.

        Args:
            exchange: of the request.
            most_bytes: of a part.
        """
        self.response: PartsResponse | None = None
        self.too_long = 0
        self._exchange = exchange
        self._most_bytes = most_bytes

    def __call__(self, part: Part) -> None:
        """Takes a part, on the event loop."""
        if not self.too_long and len(part.body) > self._most_bytes:
            self.too_long = len(part.body)
        if self.too_long:
            return
        if self.response is None:
            self.response = PartsResponse(self._exchange, part)
        self.response.add(part.body)
