"""The first minute of a new default version, after which it stays or is rolled back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from runtime.outcomes import is_models_fault


@dataclass(frozen=True)
class TrialRules:
    """When a new version has failed.

    Attributes:
        seconds: length of the trial.
        least_failures: fewer do not end it, so that one odd image does not.
        failure_share: largest share of failures above that of the version before, 0 to 1.
    """

    seconds: float = 60.0
    least_failures: int = 5
    failure_share: float = 0.2

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"seconds must be above 0, not {self.seconds:g}")
        if self.least_failures < 1:
            raise ValueError(f"least_failures must be at least 1, not {self.least_failures}")
        if not 0 <= self.failure_share < 1:
            raise ValueError(f"failure_share must be at least 0 and below 1, not {self.failure_share:g}")


class Trial:
    """Counts the outcomes of one version and says when it is to be rolled back.

    Attributes:
        answered: inputs that the version has answered during the trial.
        failed: inputs on which it failed through its own fault.
        reason: why it is to be rolled back, in one line; "" while it is not.
    """

    def __init__(
        self,
        rules: TrialRules | None = None,
        share_before: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins the trial.

        Args:
            rules: when it has failed.
            share_before: `Outcomes.failure_share` of the version before, 0 to 1: images that no version can take
                are no reason for a rollback.
            clock: tells the time in seconds.
        """
        self.answered = self.failed = 0
        self.reason = ""
        self._rules = rules or TrialRules()
        self._share_before = share_before
        self._now = clock
        self._began = clock()

    @property
    def is_over(self) -> bool:
        """Whether the version has failed, or its time has passed."""
        return bool(self.reason) or self._now() - self._began >= self._rules.seconds

    def note(self, error: BaseException | None = None) -> bool:
        """Counts one input: None for an answer. Returns True once, when the version has failed.

        Errors of clients and of the load do not count, nor does anything after the trial is over.
        """
        is_failure = is_models_fault(error)
        if self.is_over or not (error is None or is_failure):
            return False
        self.failed += is_failure
        self.answered += not is_failure
        if is_failure and self._has_failed():
            self.reason = self._why()
        return bool(self.reason)

    def _has_failed(self) -> bool:
        share = self.failed / (self.answered + self.failed)
        return self.failed >= self._rules.least_failures and share > self._rules.failure_share + self._share_before

    def _why(self) -> str:
        allowed = self._rules.failure_share + self._share_before
        return (
            f"{self.failed} of {self.answered + self.failed} images failed within "
            f"{self._now() - self._began:.1f} s, at most {allowed:.0%} may"
        )
