"""How many requests to a deployment failed through the model's own fault."""

from __future__ import annotations

import time
from collections.abc import Callable

from batching import BatchingError, ItemFailed
from models.errors import ImageError
from runtime.errors import EngineStuck, EngineUnavailable, ModelUnloaded, RuntimeFault

_OF_THE_MODEL = (EngineStuck, EngineUnavailable, ModelUnloaded)
_OF_OTHERS = (ImageError, BatchingError, RuntimeFault)  # the client's image, or the load


def is_models_fault(error: BaseException | None) -> bool:
    """Whether an input failed because of the model, not because of its client or the load.

    Of `ItemFailed` the cause decides. A passed deadline and a full queue are load. Unexpected
    exceptions of `prepare` and `finish` are the model's.
    """
    if isinstance(error, ItemFailed) and error.__cause__ is not None:
        return is_models_fault(error.__cause__)
    if isinstance(error, (ItemFailed, *_OF_THE_MODEL)):
        return True
    return isinstance(error, Exception) and not isinstance(error, _OF_OTHERS)


class Outcomes:
    """Counts answers and failures of the last minutes: each counts half as much after `half_life_s`."""

    def __init__(self, half_life_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Creates it; clock: tells the time in seconds."""
        self._half_life_s = half_life_s
        self._now = clock
        self._since = clock()
        self._answered = self._failed = 0.0

    def note(self, error: BaseException | None = None) -> None:
        """Counts one input: None for an answer. Errors of clients and of the load do not count."""
        is_failure = is_models_fault(error)
        if error is None or is_failure:
            self._decay()
            self._failed += is_failure
            self._answered += not is_failure

    def failure_share(self, least: float = 1.0) -> float:
        """Share of failures, 0 to 1; of fewer than `least` inputs as if the others had been answered."""
        self._decay()
        return self._failed / max(least, self._answered + self._failed)

    def _decay(self) -> None:
        now = self._now()
        weight = 0.5 ** ((now - self._since) / self._half_life_s)
        self._since, self._answered, self._failed = now, weight * self._answered, weight * self._failed
