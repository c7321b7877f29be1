"""Reads request bodies within limits of size, time and memory."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from batching import DeadlineExceeded
from server.config import LimitConfig
from server.http.faults import BodyTooLarge, CompressedBody, OutOfUploadMemory, SlowBody


class UploadMemory:
    """Counts the bytes of all bodies that are held, and refuses to hold too many."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> None:
        """Raises OutOfUploadMemory, taking nothing, if `count` more bytes do not fit."""
        if self.used + count > self.limit:
            raise OutOfUploadMemory("Too many uploads are being received; try again later.")
        self.used += count

    def give_back(self, count: int) -> None:
        """Counts bytes as held no longer."""
        self.used -= count


class BodyReader:
    """Reads bodies.

    Attributes:
        memory: of all bodies that are held.
    """

    def __init__(self, limits: LimitConfig) -> None:
        """Creates it with limits of size, time and memory."""
        self.memory = UploadMemory(int(limits.max_upload_memory_mb * 1_000_000))
        self._timeout_s = limits.body_timeout_s

    def check_announced(self, request: web.Request, limit: int) -> None:
        """Checks the headers of a request before its body is read.

        Raises:
            CompressedBody: there is a Content-Encoding.
            BodyTooLarge: Content-Length is over `limit` bytes.
        """
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise CompressedBody("A body with a Content-Encoding is not accepted.")
        length = request.content_length
        if length is not None and length > limit:
            raise BodyTooLarge(f"The body has {length:,} bytes, at most {limit:,} are allowed.", limit, length)

    async def read(self, request: web.Request, limit: int, deadline: float) -> bytearray:
        """Reads a body. Its bytes count as held until they are given back to `memory`.

        Args:
            request: whose headers were checked.
            limit: most bytes.
            deadline: of `time.monotonic()`.

        Raises:
            BodyTooLarge: there are more bytes.
            DeadlineExceeded: the deadline passed first.
            OutOfUploadMemory: other bodies fill the memory.
            SlowBody: it did not arrive within `body_timeout_s`.
        """
        body = bytearray()
        try:
            await self._read(request, body, limit, deadline)
        except BaseException:
            self.memory.give_back(len(body))
            raise
        return body

    async def _read(self, request: web.Request, body: bytearray, limit: int, deadline: float) -> None:
        content = request.content
        if content.is_eof():  # it came with its headers
            self._take(content.read_nowait(), body, limit)
            return
        slow_at = time.monotonic() + self._timeout_s
        try:
            async with asyncio.timeout_at(min(slow_at, deadline)):
                while chunk := await content.readany():
                    self._take(chunk, body, limit)
        except TimeoutError:
            if deadline < slow_at:
                raise DeadlineExceeded("the deadline passed before the body had arrived") from None
            raise SlowBody(f"The body did not arrive within {self._timeout_s:g} s.") from None

    def _take(self, chunk: bytes, body: bytearray, limit: int) -> None:
        self.memory.take(len(chunk))
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"The body has more than {limit:,} bytes.", limit, None)
