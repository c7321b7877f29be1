"""A process that is to be the next worker, started before it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from server.workers.worker_process import WorkerProcess

KEPT_S = 60.0  # after the last sign that it may be needed


class Spare:
    """Has imported torch, and waits to be told which worker it is.

    It holds memory, so there is one only while a worker is likely to end: an engine is overdue, or the last worker
    ended soon.
    """

    def __init__(
        self, spawn: Callable[[], Awaitable[WorkerProcess]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Creates it without a process.

        Args:
            spawn: starts one that waits for its settings.
            clock: tells the time in seconds.
        """
        self._spawn = spawn
        self._now = clock
        self._spawning: asyncio.Task[WorkerProcess] | None = None
        self._wanted_at = 0.0

    def want(self) -> None:
        """Starts the process if there is none, and keeps it for another minute."""
        self._wanted_at = self._now()
        if self._spawning is None:
            self._spawning = asyncio.ensure_future(self._spawn())

    async def take(self) -> WorkerProcess | None:
        """The process, to become a worker; None if there is none that runs."""
        spawning, self._spawning = self._spawning, None
        with contextlib.suppress(OSError):  # the machine has no room for another process
            worker = await spawning if spawning else None
            return worker if worker and worker.process.returncode is None else None
        return None

    def look(self) -> None:
        """Ends a process that was not needed."""
        if self._now() - self._wanted_at > KEPT_S:
            self.kill()

    def kill(self) -> None:
        """Ends the process, if there is one."""
        spawning, self._spawning = self._spawning, None
        if spawning and spawning.done() and not spawning.exception():
            spawning.result().kill()
