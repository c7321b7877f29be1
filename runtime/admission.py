"""Whether a request is accepted: only if it can be answered in time."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from runtime.errors import Overloaded

# Of the time that is left: the rest is for what the forecast does not know.
_MARGIN = 0.8
# While refused clients are expected back, others get this part of the time, so that those find room.
_SHARE_OF_OTHERS = 0.5

# An item that would be done just in time is dropped: it is late as soon as the engine becomes slower. Served so,
# in order of arrival, nearly as many are in time as with the newest first (python -m benchmark order).
_SPARE_BATCHES = 2

_LEAST_RETRY_S, _MOST_RETRY_S = 1.0, 60.0
_PATIENCE_S = 2.0  # clients round, and are late
_CAPACITY_FOR_RETRIES = 0.8  # what is left is for clients that were not refused before


class RetryBook:
    """Tells refused clients when to come back: one after the other, as fast as the model can take them.

    Places whose time has passed are forgotten, and all places when they pass and no client comes back.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """Creates it; `chance` gives numbers from 0 to 1."""
        self._last = -math.inf  # time of the last place
        self._patience_s = 0.0  # after a place, or a client that came back
        self._patient_until = -math.inf
        self._chance = chance

    def is_waiting(self, now: float) -> bool:
        """Whether a client is expected back."""
        return now < min(self._last, self._patient_until)

    def book(self, now: float, item_s: float) -> int:
        """Whole seconds after which one more client is to come back, rounded up or down by chance.

        Args:
            now: monotonic time.
            item_s: seconds that the model takes for one item under full load.
        """
        pace_s = item_s / _CAPACITY_FOR_RETRIES
        is_first, self._patience_s = not self.is_waiting(now), _PATIENCE_S + 2 * pace_s
        begin = now + _LEAST_RETRY_S if is_first else max(self._last, now + _LEAST_RETRY_S)
        self._last = min(begin + pace_s, now + _MOST_RETRY_S)
        if is_first:
            self._patient_until = self._last + self._patience_s
        return max(1, math.floor(self._last - now + self._chance()))

    def note_return(self, now: float) -> None:
        """A client has repeated its request after Retry-After."""
        self._patient_until = now + self._patience_s


class Admission:
    """Accepts by a forecast of when a request would be answered.

    Attributes:
        target_s: longest time from the acceptance to the answer; None: as long as the request's deadline allows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Creates one that accepts everything until it has a target."""
        self.target_s: float | None = None
        self.retries = RetryBook()
        self._now = clock

    def admit(
        self,
        forecast_s: float | None,
        deadline: float | None,
        is_retry: bool = False,
        own_s: float = 0.0,
        item_s: float = 0.0,
        batch_s: float = 0.0,
    ) -> float:
        """Accepts a request, or refuses it.

        Args:
            forecast_s: seconds until its first item would be done; None: the queue before it is empty.
            deadline: monotonic time after which no client waits for it.
            is_retry: its client was refused before, and repeats its request after Retry-After.
            own_s: seconds that its further items take, which do not count against the target.
            item_s: seconds that the model takes for one item under full load.
            batch_s: seconds that the batch of its first item takes.

        Returns:
            Monotonic time by which its batches have to begin. Infinite where nothing lies before it: if nothing
            ran, a wrong forecast would stay wrong.

        Raises:
            Overloaded: the answer would come too late.
        """
        now = self._now()
        if is_retry:
            self.retries.note_return(now)
        if self.target_s is None or forecast_s is None:
            return math.inf
        left_s = self.target_s if deadline is None else min(self.target_s, deadline - now)
        share = 1.0 if is_retry or not self.retries.is_waiting(now) else _SHARE_OF_OTHERS
        if forecast_s > left_s * _MARGIN * share:
            raise self.refusal(item_s)
        return now + left_s + own_s - min(_SPARE_BATCHES * batch_s, left_s / 2)

    def refusal(self, item_s: float) -> Overloaded:
        """The error of a request that would be answered too late, with the time at which to come back."""
        return Overloaded(self.retries.book(self._now(), item_s))
