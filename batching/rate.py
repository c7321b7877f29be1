"""How fast the queue drains."""

from __future__ import annotations

_WEIGHT = 0.2  # of the newest batch in the moving average: about the last ten batches count
_LEAST_S = 1.0


class DrainRate:
    """An exponentially weighted mean of seconds per item, from the batches that were run.

    Attributes:
        seconds_per_item: the mean; None before the first batch.
    """

    def __init__(self) -> None:
        self.seconds_per_item: float | None = None

    def add(self, items: int, seconds: float) -> None:
        """Records that a batch of `items` took `seconds`."""
        latest = seconds / items
        known = self.seconds_per_item
        self.seconds_per_item = latest if known is None else known + _WEIGHT * (latest - known)

    def seconds_for(self, items: int) -> float:
        """How long `items` will take; at least a second, which is also the answer before any batch ran."""
        return max(_LEAST_S, items * (self.seconds_per_item or 0.0))
