"""A log line about something that may happen thousands of times a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

INTERVAL_S = 10.0


class RareLine:
    """Logs the first time, then at most once in ten seconds, with the number of times since."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Creates it.

        Args:
            log: gets warnings.
            clock: in seconds.
        """
        self._log = log
        self._now = clock
        self._next = -float("inf")
        self._times = 0

    def __call__(self, text: str, *values: object) -> None:
        """Counts, and logs if it is time.

        Args:
            text: of the line, in logging's own format.
            values: for it.
        """
        self._times += 1
        now = self._now()
        if now < self._next:
            return
        more = f" ({self._times:,} times)" if self._times > 1 else ""
        self._log.warning(text + more, *values)
        self._next, self._times = now + INTERVAL_S, 0
