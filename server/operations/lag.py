"""How late the event loop is: the time that a ready answer, or a new connection, waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

INTERVAL_S = 0.02


class LoopLag:
    """Asks the running event loop to be called every 20 ms, and reports how much later it is.

    A loop that is held up misses calls. Each of them counts, with the delay that it would have had: otherwise
    the longest delays would be the rarest.
    """

    def __init__(self, report: Callable[[float], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Creates a probe.

        Args:
            report: given seconds, at least 0.
            clock: with the zero of `loop.time()`, which under uvloop counts whole milliseconds.
        """
        self._report = report
        self._now = clock
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins; the event loop is running."""
        self._due = self._now()
        self._wait()

    def stop(self) -> None:
        """Ends."""
        if self._timer:
            self._timer.cancel()

    def _wait(self) -> None:
        self._due += INTERVAL_S
        self._timer = asyncio.get_running_loop().call_at(self._due, self._measure)

    def _measure(self) -> None:
        now = self._now()
        self._report(max(0.0, now - self._due))  # uvloop's timers are up to half a millisecond early
        while self._due + INTERVAL_S <= now:
            self._due += INTERVAL_S
            self._report(now - self._due)
        self._wait()
