"""A stream of requests: several run at once, and are answered in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")

_MOST_AT_ONCE = 32  # requests of a stream that are read ahead of its answers


class Stream(Generic[Request, Answer]):
    """Answers the requests of one call."""

    def __init__(self, requests: AsyncIterator[Request], answer: Callable[[Request], Awaitable[Answer]]) -> None:
        """Creates it.

        Args:
            requests: as they come.
            answer: of one request; it does not raise.
        """
        self._requests = requests
        self._answer = answer
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self._pending: asyncio.Queue[asyncio.Future[Answer] | None] = asyncio.Queue()
        self._running: set[asyncio.Future[Answer]] = set()
        self._reading: asyncio.Future[None] | None = None

    async def answers(self) -> AsyncIterator[Answer]:
        """Every answer; what still runs when its client leaves is cancelled."""
        self._reading = asyncio.ensure_future(self._read())
        try:
            while (running := await self._pending.get()) is not None:
                yield await running
                self._room.release()
        finally:
            self._reading.cancel()
            for each in self._running:
                each.cancel()

    def stop(self) -> None:
        """Reads no further request; those that were read are answered."""
        if self._reading:
            self._reading.cancel()

    async def _read(self) -> None:
        try:
            while await self._room.acquire():
                try:
                    request = await anext(self._requests)
                except StopAsyncIteration:
                    return
                running = asyncio.ensure_future(self._answer(request))
                self._running.add(running)
                running.add_done_callback(self._running.discard)
                self._pending.put_nowait(running)
        finally:
            self._pending.put_nowait(None)
