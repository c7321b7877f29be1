"""Notices an engine that does not come back from a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from runtime.runner import ThreadRunner
from runtime.stay import AnyDeployment

INTERVAL_S = 0.25  # between two looks

_OVERDUE_S = 0.75  # with the interval: known within a second
_TIMES_USUAL = 3.0


class Watchdog:
    """Compares the time that a batch takes with what it usually takes, and with the longest that it may take.

    Time is counted by looks. If the process or the machine stood still, the engine did too: a pause counts as two
    intervals at most.

    Attributes:
        overdue: whether an engine is busy for more than 0.75 s and three times the usual time of its batch.
        stuck: the deployment whose engine is busy for longer than the time limit and whose runner cannot end it:
            one on a thread; None while there is none.
    """

    def __init__(
        self,
        deployments: Iterable[AnyDeployment],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates it; `look` is called every `INTERVAL_S`.

        Args:
            deployments: in service at the moment; iterated over at every look.
            clock: that `Runner.busy_since` was read from.
        """
        self.overdue = False
        self.stuck: AnyDeployment | None = None
        self._deployments = deployments
        self._now = clock
        self._looked_at = clock()
        self._busy: dict[AnyDeployment, tuple[float, float]] = {}  # busy since, seconds counted

    def look(self) -> None:
        """Looks at every engine once."""
        busy = self._count()
        self.overdue = any(seconds > _patience_s(deployment) for deployment, (_, seconds) in busy.items())
        for deployment, (_, seconds) in busy.items():
            if seconds > deployment.runner.limit_s and isinstance(deployment.runner, ThreadRunner):
                self.stuck = self.stuck or deployment
        self._busy = busy

    def _count(self) -> dict[AnyDeployment, tuple[float, float]]:
        now = self._now()
        elapsed, self._looked_at = min(now - self._looked_at, 2 * INTERVAL_S), now
        busy = {}
        for deployment in self._deployments:
            since = deployment.runner.busy_since
            if since is not None:
                known, seconds = self._busy.get(deployment, (None, 0.0))
                busy[deployment] = since, seconds + elapsed if since == known else min(now - since, elapsed)
        return busy


def _patience_s(deployment: AnyDeployment) -> float:
    return max(_OVERDUE_S, _TIMES_USUAL * deployment.batcher.expected_batch_s)
