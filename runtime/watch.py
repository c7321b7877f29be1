"""What is learned from the inputs of a default version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.inputs import Input
from runtime.outcomes import Outcomes
from runtime.outputs import Output
from runtime.phases import PhaseClock
from runtime.shadow import Shadow
from runtime.trial import Trial

_LEAST = 20.0  # inputs before a share of failures means something


class Watch:
    """The audience of a default version: counts its failures, and passes its inputs on to its shadow.

    Attributes:
        shadow: that gets a share of the inputs, or None.
    """

    def __init__(self, trial: Trial | None = None, on_failed: Callable[[str], None] | None = None) -> None:
        """Creates it.

        Args:
            trial: of a version that is new.
            on_failed: called once with the reason when the trial has failed.
        """
        self.shadow: Shadow | None = None
        self._outcomes = Outcomes()
        self._trial = trial
        self._on_failed = on_failed

    @property
    def failure_share(self) -> float:
        """Share of inputs on which the version failed lately, 0 to 1."""
        return self._outcomes.failure_share(_LEAST)

    def answered(self, given: Input, output: Output, clock: PhaseClock) -> None:
        """See Audience."""
        self._outcomes.note()
        if self._trial:
            self._trial.note()
        if self.shadow:
            self.shadow.offer(given, output, clock)

    def failed(self, error: Exception) -> None:
        """See Audience."""
        self._outcomes.note(error)
        if self._trial and self._trial.note(error) and self._on_failed:
            self._on_failed(self._trial.reason)

    def report(self) -> dict[str, Any]:
        """How the shadow compares, for GET /models; of this process."""
        return {"shadow": self.shadow.report().to_json()} if self.shadow else {}
