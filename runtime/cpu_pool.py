"""The threads that prepare inputs, and what waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from batching import DeadlineExceeded

Out = TypeVar("Out")


class _Job(Generic[Out]):
    """Work that was asked for. `work` is None when nobody waits for it any longer."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], Out], future: asyncio.Future[Out]) -> None:
        self.work: Callable[[], Out] | None = work
        self.future = future


class CpuPool:
    """Runs functions on threads, and keeps nothing of those whose caller has left.

    `loop.run_in_executor` makes a second future, a lock and a wake-up of the loop for each call; here results that
    are ready together come back together. What that saves: docs/performance.md.
    """

    def __init__(self, threads: int, begin: Callable[[], None] = lambda: None) -> None:
        """Starts the threads.

        Args:
            threads: how many.
            begin: called first on each of them.
        """
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False
        self.threads = threads
        for number in range(threads):
            threading.Thread(target=self._work, args=(begin,), name=f"cpu-{number}", daemon=True).start()

    async def run(self, work: Callable[[], Out], deadline: float | None = None) -> Out:
        """Runs `work` on a thread.

        Args:
            work: an image that it holds is let go at once when the caller leaves, not when a thread comes to it.
            deadline: `time.monotonic()` after which nobody waits for the result.

        Raises:
            DeadlineExceeded: the deadline passed first. Work that has begun goes on.
        """
        loop = asyncio.get_running_loop()
        job: _Job[Out] = _Job(work, loop.create_future())
        del work
        expiry = None if deadline is None else loop.call_at(deadline, _expire, job.future)
        self._jobs.put(job)
        try:
            return await job.future
        finally:
            job.work = None
            if expiry is not None:
                expiry.cancel()

    def close(self) -> None:
        """Ends each thread when it has done what it was asked for before."""
        for _ in range(self.threads):
            self._jobs.put(None)

    def _work(self, begin: Callable[[], None]) -> None:
        begin()
        while (job := self._jobs.get()) is not None:
            work, job.work = job.work, None
            if work is None:
                continue
            try:
                result, error = work(), None
            except BaseException as raised:
                result, error = None, raised
            loop = job.future.get_loop()
            self._done.append((job.future, result, error))
            del work, job, result, error  # an image would stay here until the next one
            self._wake(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Asks the loop to take what is done, unless it was asked already and has not begun."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # it is closed, nobody waits
                loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        self._woken = False  # first: what is done from now on wakes the loop again
        while self._done:
            future, result, error = self._done.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded("the deadline passed before a thread was done"))
