"""The longest time that a batch may run."""

from __future__ import annotations

import math
from dataclasses import dataclass

_TIMES_FULL = 20.0
_LEAST_S = 5.0


@dataclass(frozen=True)
class BatchLimit:
    """How long a batch may run before its engine counts as hung.

    Attributes:
        given_s: in seconds; None: 20 times what a full batch takes on an idle machine, at least 5 s.
        most_s: upper bound of what is found so.
    """

    given_s: float | None = math.inf
    most_s: float = 30.0

    @property
    def at_start_s(self) -> float:
        """The limit before any batch was timed: a cold one may be slow."""
        return max(_LEAST_S, self.most_s) if self.given_s is None else self.given_s

    def of(self, full_batch_s: float) -> float:
        """The limit in seconds, of an engine that takes `full_batch_s` for a full batch."""
        if self.given_s is not None:
            return self.given_s
        return max(_LEAST_S, min(_TIMES_FULL * full_batch_s, self.most_s))
