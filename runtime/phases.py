"""Where a request's time went: consecutive marks of one clock."""

from __future__ import annotations

from collections.abc import Callable

PHASES = ("read", "decode", "queue", "infer")


class PhaseClock:
    """Each mark ends a phase and begins the next, so the phases add up to the total.

    Timed once, used three times: `timing_ms`, `Server-Timing` and the metrics.

    Attributes:
        started: time of the start.
        last: time of the last mark.
        seconds: of each phase.
        batch_size: items in the batch that gave the output; 0 before.
    """

    __slots__ = ("_now", "_timing_ms", "batch_size", "last", "seconds", "started")

    def __init__(self, now: Callable[[], float]) -> None:
        """Starts the clock; `now` tells the time in seconds (`time.monotonic`)."""
        self._now = now
        self.started = self.last = now()
        self.batch_size = 0
        self.seconds: dict[str, float] = {}
        self._timing_ms: dict[str, float] | None = None

    def mark(self, phase: str, at: float | None = None) -> None:
        """Ends `phase` now, or at a time that was read from the same clock."""
        moment = self._now() if at is None else at
        self.seconds[phase] = moment - self.last
        self.last = moment
        self._timing_ms = None

    def fork(self) -> PhaseClock:
        """A clock that goes on from here on its own, for one of several images."""
        other = PhaseClock.__new__(PhaseClock)
        other._now, other.started, other.last, other.seconds = self._now, self.last, self.last, {}
        other._timing_ms, other.batch_size = None, 0
        return other

    def timing_ms(self) -> dict[str, float]:
        """The phases and their total, in milliseconds."""
        if self._timing_ms is None:
            phases = {phase: round(seconds * 1000, 3) for phase, seconds in self.seconds.items()}
            self._timing_ms = {**phases, "total": round(sum(phases.values()), 3)}
        return self._timing_ms

    def server_timing(self) -> str:
        """The same as a Server-Timing header (https://www.w3.org/TR/server-timing/)."""
        return ", ".join([f"{phase};dur={duration}" for phase, duration in self.timing_ms().items()])
