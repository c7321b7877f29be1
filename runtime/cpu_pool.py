"""The threads that prepare inputs, and what waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from batching import DeadlineExceeded, QueueFull
from models.images.stop import Stop
from runtime.lane import Job, Lane

Out = TypeVar("Out")


def _nothing() -> None:
    pass


class CpuPool:
    """Runs functions on threads, and keeps nothing of those whose caller has left.

    What takes long has threads of its own, which give way to the others: it gets what they leave of the cores, and
    nothing short waits for it.

    `loop.run_in_executor` makes a second future, a lock and a wake-up of the loop for each call; here results that
    are ready together come back together. What that saves: docs/performance.md.
    """

    def __init__(
        self,
        threads: int,
        begin: Callable[[], None] = _nothing,
        begin_long: Callable[[], None] = _nothing,
        rest: Callable[[], None] = _nothing,
    ) -> None:
        """Starts the threads for short jobs; those for long ones start when there is one.

        Args:
            threads: how many for short jobs, and how many for long ones.
            begin: called first on each of those for short jobs.
            begin_long: called first on each of those for long jobs.
            rest: called on one of the latter when there was no long job for some seconds.
        """
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False
        self.threads = threads
        self._short = Lane("cpu", threads, begin, self._finish)
        self._long = Lane("cpu-long", threads, begin_long, self._finish, rest)
        self._short.start()

    async def run(self, work: Callable[[], Out], deadline: float | None = None) -> Out:
        """Runs `work` on a thread.

        Args:
            work: an image that it holds is let go at once when the caller leaves, not when a thread comes to it.
            deadline: `time.monotonic()` after which the result is not needed.

        Raises:
            DeadlineExceeded: the deadline passed first. Work that has begun goes on.
        """
        job = _job(work, deadline)
        del work
        return await _result(self._short, job)

    async def run_long(self, work: Callable[[Stop], Out], deadline: float | None = None) -> Out:
        """Runs what may take long on a thread that gives way to those of `run`.

        Args:
            work: as for `run`; what it is called with is set when the caller leaves or the deadline passes.
            deadline: likewise.

        Raises:
            QueueFull: as much waits as would take until the deadline.
            DeadlineExceeded: the deadline passed first.
        """
        wait_s = self._long.wait_s
        if deadline is not None and wait_s and time.monotonic() + wait_s > deadline:
            raise QueueFull(wait_s)
        stop = Stop()
        job = _job(partial(work, stop), deadline)
        del work
        try:
            return await _result(self._long, job)
        finally:
            stop.set()

    def close(self) -> None:
        """Ends each thread when it has done what it was asked for before."""
        self._short.close()
        self._long.close()

    def _finish(self, job: Job[Any], result: Any, error: BaseException | None) -> None:
        self._done.append((job.future, result, error))
        self._wake(job.future.get_loop())

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Asks the loop to take what is done, unless it was asked already and has not begun."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, no caller waits
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


def _job(work: Callable[[], Out], deadline: float | None) -> Job[Out]:
    return Job(work, asyncio.get_running_loop().create_future(), deadline)


async def _result(lane: Lane, job: Job[Out]) -> Out:
    expiry = None if job.deadline is None else job.future.get_loop().call_at(job.deadline, _expire, job.future)
    lane.put(job)
    try:
        return await job.future
    finally:
        lane.give_up(job)
        if expiry is not None:
            expiry.cancel()


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded("the deadline passed before a thread was done"))
