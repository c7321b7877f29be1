"""Threads that take jobs from one queue."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

Out = TypeVar("Out")

_WEIGHT = 0.05  # of the latest job in the average
_REST_S = 5.0  # without a job


class Job(Generic[Out]):
    """Work in the queue of a lane, until a thread takes it or its caller gives it up.

    Attributes:
        future: of its result.
        deadline: `time.monotonic()` after which it is not begun, or None.
    """

    __slots__ = ("_work", "deadline", "future")

    def __init__(self, work: Callable[[], Out], future: asyncio.Future[Out], deadline: float | None) -> None:
        self._work = [work]
        self.future = future
        self.deadline = deadline

    def take(self) -> Callable[[], Out] | None:
        """The work, once; then None."""
        try:
            return self._work.pop()  # of two threads one gets it
        except IndexError:
            return None


class Lane:
    """Threads that take jobs in the order in which they were put.

    Attributes:
        seconds_per_job: moving average of how long a job took its thread; 0 before the first.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        begin: Callable[[], None],
        finish: Callable[[Job[Any], Any, BaseException | None], None],
        rest: Callable[[], None] | None = None,
    ) -> None:
        """Creates it; the threads start with the first job.

        Args:
            name: of the threads, before a number.
            threads: how many.
            begin: called first on each of them.
            finish: called on them with a job, its result, and what it raised.
            rest: called on one of them when it had work, and then none for some seconds.
        """
        self.seconds_per_job = 0.0
        self._name = name
        self._threads = threads
        self._begin = begin
        self._finish = finish
        self._rest = rest
        self._jobs: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._started = False
        self._given_up = 0  # by the event loop; and passed over by each thread:
        self._passed_over = [0] * threads

    @property
    def waiting(self) -> int:
        """Jobs that were put, not begun and not given up."""
        return max(0, self._jobs.qsize() - (self._given_up - sum(self._passed_over)))

    @property
    def wait_s(self) -> float:
        """How long a job that is put now waits for a thread, at least."""
        return self.waiting * self.seconds_per_job / self._threads

    def put(self, job: Job[Any]) -> None:
        """Has a job done."""
        if not self._started:
            self.start()
        self._jobs.put(job)

    def give_up(self, job: Job[Any]) -> None:
        """Lets go of a job's work, if no thread has taken it."""
        self._given_up += job.take() is not None

    def start(self) -> None:
        """Starts the threads."""
        self._started = True
        for number in range(self._threads):
            threading.Thread(target=self._run, args=(number,), name=f"{self._name}-{number}", daemon=True).start()

    def close(self) -> None:
        """Ends each thread when it has done what was put before."""
        for _ in range(self._threads if self._started else 0):
            self._jobs.put(None)

    def _run(self, number: int) -> None:
        self._begin()
        while (job := self._next()) is not None:
            work = job.take()
            if work is None:
                self._passed_over[number] += 1
                continue
            began = time.monotonic()
            if job.deadline is not None and began >= job.deadline:
                del work, job
                continue
            try:
                result, error = work(), None
            except BaseException as raised:
                result, error = None, raised
            self._note(time.monotonic() - began)
            self._finish(job, result, error)
            del work, job, result, error  # an image would stay here until the next one

    def _next(self) -> Job[Any] | None:
        if self._rest is None or not self.seconds_per_job:
            return self._jobs.get()
        try:
            return self._jobs.get(timeout=_REST_S)
        except Empty:
            self._rest()
            return self._jobs.get()

    def _note(self, seconds: float) -> None:
        # Two threads at once may lose one of their values, which an average bears.
        before = self.seconds_per_job
        self.seconds_per_job = before + _WEIGHT * (seconds - before) if before else seconds
