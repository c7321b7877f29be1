"""Reads request bodies within limits of size, time and memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from aiohttp import web

from batching import DeadlineExceeded
from server.config import LimitConfig
from server.http.faults import BodyTooLarge, CompressedBody, OutOfUploadMemory, SlowBody

_STANDS_STILL_S = 1.0  # without a byte


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


class Pace:
    """When a body is too slow: no byte for `timeout_s`, or after that fewer bytes per second than `rate`.

    The rule is that of Apache's mod_reqtimeout: `timeout_s`, and a second more for every `rate` bytes.
    https://httpd.apache.org/docs/current/mod/mod_reqtimeout.html
    """

    def __init__(self, now: float, timeout_s: float, rate: float) -> None:
        """Begins with the wait for the first byte.

        Args:
            now: monotonic time, as in all methods.
            timeout_s: longest pause, and the time after which the rate counts.
            rate: bytes per second; 0: no limit.
        """
        self._began = self._last = now
        self._timeout_s = timeout_s
        self._rate = rate
        self._received = 0

    def count(self, received: int, now: float) -> None:
        """Counts bytes that have arrived."""
        self._received += received
        self._last = now

    @property
    def due(self) -> float:
        """When the body is too slow unless more of it arrives."""
        pause_ends = self._last + self._timeout_s
        if not self._rate:
            return pause_ends
        return min(pause_ends, self._began + self._timeout_s + self._received / self._rate)

    def is_slow(self, now: float) -> bool:
        """Whether the body is at fault when its request is too late: it pauses, or is below the rate."""
        lasted = now - self._began
        return now - self._last >= _STANDS_STILL_S or (
            lasted >= _STANDS_STILL_S and self._received < lasted * self._rate
        )


class BodyReader:
    """Reads bodies.

    Attributes:
        memory: of all bodies that are held.
    """

    def __init__(self, limits: LimitConfig) -> None:
        """Creates it with limits of size, time and memory."""
        self.memory = UploadMemory(int(limits.max_upload_memory_mb * 1_000_000))
        self._timeout_s = limits.body_timeout_s
        self._rate = limits.min_body_bytes_per_s

    def check_announced(self, request: web.Request, limit: int, encodings: Collection[str] = frozenset()) -> None:
        """Checks the headers of a request before its body is read.

        Args:
            request: with the headers.
            limit: most bytes of the body.
            encodings: values of Content-Encoding that are taken.

        Raises:
            CompressedBody: there is another Content-Encoding.
            BodyTooLarge: Content-Length is over `limit` bytes.
        """
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity" and encoding not in encodings:
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
            SlowBody: it stood still, or its rate was too low.
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
        pace = Pace(time.monotonic(), self._timeout_s, self._rate)
        try:
            async with asyncio.timeout_at(min(pace.due, deadline)) as end:
                while chunk := await content.readany():
                    self._take(chunk, body, limit)
                    pace.count(len(chunk), time.monotonic())
                    end.reschedule(min(pace.due, deadline))
        except TimeoutError:
            if pace.due < deadline or pace.is_slow(time.monotonic()):
                raise SlowBody("The body stopped, or arrived too slowly.") from None
            raise DeadlineExceeded("the deadline passed before the body had arrived") from None

    def _take(self, chunk: bytes, body: bytearray, limit: int) -> None:
        self.memory.take(len(chunk))
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"The body has more than {limit:,} bytes.", limit, None)
