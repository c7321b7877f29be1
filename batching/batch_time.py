"""The time of a batch, as a line over its size."""

from __future__ import annotations

_WEIGHT = 0.1  # of the newest batch: about the last twenty batches count
_LEAST_SPREAD = 0.05  # variance of the sizes, as a part of their mean squared; below it no slope can be told


class BatchTime:
    """A straight line through the recent batches, least squares with exponentially falling weights.

    A batch costs something by itself and something per item. Told apart, so that what was learned from batches of
    one is not taken for the speed of full batches.
    """

    def __init__(self) -> None:
        self._known = False
        self._size = self._seconds = self._size_squared = self._product = 0.0  # weighted means

    def add(self, size: int, seconds: float) -> None:
        """Records that a batch of `size` items took `seconds`."""
        weight = _WEIGHT if self._known else 1.0
        self._known = True
        self._size += weight * (size - self._size)
        self._seconds += weight * (seconds - self._seconds)
        self._size_squared += weight * (size * size - self._size_squared)
        self._product += weight * (size * seconds - self._product)

    def of(self, size: int) -> float:
        """Seconds that a batch of `size` items is expected to take; 0 before any batch ran."""
        if not self._known or size < 1:
            return 0.0
        return max(0.0, self._seconds + self._slope() * (size - self._size))

    def _slope(self) -> float:
        """Seconds per further item: between none and all of a batch's time."""
        proportional = self._seconds / self._size
        variance = self._size_squared - self._size**2
        if variance < _LEAST_SPREAD * self._size**2:
            return proportional
        return min(max(0.0, (self._product - self._size * self._seconds) / variance), proportional)
