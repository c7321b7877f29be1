"""When to run a batch: a pure function, apart from the machinery that obeys it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Run(NamedTuple):
    """Run a batch of the `size` oldest items now."""

    size: int


class Wait(NamedTuple):
    """Ask again after `seconds`, or sooner when an item comes or a batch ends; None: only then."""

    seconds: float | None


Decision = Run | Wait

# uvloop's timers count whole milliseconds and come a little late. A batch closes up to one early instead, so that
# no item waits longer than the timeout.
_TIMER_GRAIN_S = 0.001
_NOT_WORTH_A_TIMER_S = 0.0005


@dataclass(frozen=True)
class BatchPolicy:
    """The two rules of the field, told apart by `batch_timeout_ms`.

    - **fixed-timeout** (> 0): a batch closes at `max_batch_size` items or `batch_timeout_ms` after its first
      item came (up to a millisecond less), whichever is sooner. While all runners are busy a closed batch still
      takes in new items.
    - **while-busy** (0): an idle runner takes what is waiting at once; batches form while it works.

    Attributes:
        max_batch_size: most items in one batch.
        batch_timeout_ms: longest wait for a batch to fill, in milliseconds.
    """

    max_batch_size: int = 32
    batch_timeout_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, not {self.max_batch_size}")
        if self.batch_timeout_ms < 0:
            raise ValueError(f"batch_timeout_ms must be at least 0, not {self.batch_timeout_ms}")

    def decide(self, queued: int, oldest_age_s: float, idle_for_s: float | None) -> Decision:
        """Decides what to do with the queue.

        Args:
            queued: items waiting.
            oldest_age_s: seconds since the first of them came.
            idle_for_s: seconds since a runner is idle; None: all are busy.
        """
        if not queued or idle_for_s is None:
            return Wait(None)
        remaining_s = self.batch_timeout_ms / 1000 - _TIMER_GRAIN_S - oldest_age_s
        if queued >= self.max_batch_size or remaining_s < _NOT_WORTH_A_TIMER_S:
            return Run(min(queued, self.max_batch_size))
        return Wait(remaining_s)
