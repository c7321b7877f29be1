"""One order to several workers, and what each of them answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

from server.workers.messages import (
    Commit,
    Committed,
    Describe,
    Draining,
    Failed,
    Leaving,
    Prepare,
    Prepared,
    Refused,
    Report,
    Show,
    Shown,
    Stuck,
    Undo,
    Undone,
)
from server.workers.worker_process import WorkerProcess

Asked = type[Prepare] | type[Commit] | type[Undo] | type[Show] | type[Describe]
_ANSWERS: Mapping[Asked, Callable[[int], Report]] = {
    Prepare: Prepared,
    Commit: Committed,
    Undo: Undone,
    Show: Shown,
    Describe: Shown,
}


class Round:
    """Waits until every worker has answered, is lost, or is late.

    Attributes:
        done: workers that have done what they were told.
        refused: what others say instead.
        lost: workers that ended, are about to, or took no order.
        late: workers that have not answered.
    """

    def __init__(self, order: Asked, number: int) -> None:
        """Creates it; no worker is asked yet.

        Args:
            order: its kind.
            number: that it has, and its answers too.
        """
        self._order = order.__name__
        self._answer = _ANSWERS[order](number)
        self._number = number
        self._event = asyncio.Event()
        self.done: list[WorkerProcess] = []
        self.refused: dict[WorkerProcess, Refused] = {}
        self.lost: list[WorkerProcess] = []
        self.late: list[WorkerProcess] = []

    def ask(self, workers: Iterable[WorkerProcess], send: Callable[[WorkerProcess], bool]) -> None:
        """Sends the order to each worker."""
        for worker in workers:
            (self.late if not worker.leaving and send(worker) else self.lost).append(worker)

    def heard(self, worker: WorkerProcess, report: Report | None) -> None:
        """Takes a report of any worker, which may be about other things."""
        if worker not in self.late:
            return
        if report == self._answer:
            self.done.append(worker)
        elif isinstance(report, Refused) and (report.order, report.number) == (self._order, self._number):
            self.refused[worker] = report
        elif report is None or isinstance(report, Leaving | Stuck | Draining | Failed):
            self.lost.append(worker)
        else:
            return
        self.late.remove(worker)
        self._event.set()

    async def wait(self, seconds: float, until_first_failure: bool = False) -> None:
        """Waits for all, or until one cannot do it; or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.late and not (until_first_failure and (self.refused or self.lost)):
                    self._event.clear()
                    await self._event.wait()
