"""When a worker that has ended is started again."""

from __future__ import annotations

from dataclasses import dataclass

STABLE_S = 10.0  # a worker that was ready for so long is not counted as a failed start
MOST_FAILED_STARTS = 5

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_LONGEST_AFTER_READY_S = 4.0  # about the time of a start, so that one place takes half a core at most


@dataclass(frozen=True)
class Restarts:
    """What is known of the workers that had one place.

    Attributes:
        failures: workers in a row that ended soon.
        failed_starts: workers in a row that were never ready.
    """

    failures: int = 0
    failed_starts: int = 0

    def after(self, ready_s: float | None) -> Restarts:
        """The same after one more end.

        Args:
            ready_s: how long the worker was ready, in seconds; None: never.
        """
        if ready_s is None:
            return Restarts(self.failures + 1, self.failed_starts + 1)
        return Restarts(self.failures + 1 if ready_s < STABLE_S else 0, 0)

    @property
    def delay_s(self) -> float:
        """Seconds to wait before the next start: none at first, then doubled each time."""
        longest = _LONGEST_DELAY_S if self.failed_starts else _LONGEST_AFTER_READY_S
        return min(_FIRST_DELAY_S * 2 ** (self.failures - 1), longest) if self.failures else 0.0

    @property
    def hopeless(self) -> bool:
        """Whether so many starts have failed that the next will too."""
        return self.failed_starts >= MOST_FAILED_STARTS
