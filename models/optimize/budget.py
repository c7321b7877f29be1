"""The time that an optimisation may take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Budget:
    """Seconds that are left of a limit."""

    def __init__(self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins now.

        Args:
            seconds: in all; infinite without a limit.
            clock: in seconds.
        """
        self.seconds = seconds
        self._clock = clock
        self._began = clock()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds until the limit, never negative; infinite without one."""
        return max(0.0, self.seconds - self.spent)

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return math.isfinite(self.seconds)

    def describe(self) -> str:
        """What is left in words; "" without a limit."""
        return f"{self.left:.0f} s left" if self.is_limited else ""
