"""Metrics for Prometheus of versions that are shadows of others."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter


class ShadowMetrics:
    """Counters of all shadows of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Creates them; registry: of the process."""
        counter = partial(Counter, registry=registry)
        of = ["model", "version"]
        inputs = "Inputs that a shadow took, by outcome: agreed, differed, dropped or failed."
        difference = "Absolute differences of the score of the primary's best label, over the compared inputs."
        seconds = "Time from acceptance to scores, over the compared inputs: of the primary and of the shadow."
        self._inputs = counter("snapserve_shadow_images", inputs, ["model", "outcome", "version"])
        self._difference = counter("snapserve_shadow_score_difference", difference, of)
        self._seconds = counter("snapserve_shadow_seconds", seconds, ["model", "role", "version"])

    def of(self, model: str, version: str) -> ShadowCounters:
        """What a shadow reports to."""
        outcomes = {
            outcome: self._inputs.labels(model, outcome, version)
            for outcome in ("agreed", "differed", "dropped", "failed")
        }
        seconds = {role: self._seconds.labels(model, role, version) for role in ("primary", "shadow")}
        return ShadowCounters(outcomes, self._difference.labels(model, version), seconds)


class ShadowCounters:
    """Implements `runtime.observer.ShadowObserver` for one version."""

    def __init__(self, outcomes: dict[str, Counter], difference: Counter, seconds: dict[str, Counter]) -> None:
        self._outcomes = outcomes
        self._difference = difference
        self._seconds = seconds

    def compared(self, agreed: bool, score_difference: float, primary_s: float, shadow_s: float) -> None:
        """Counts an input that both versions have answered."""
        self._outcomes["agreed" if agreed else "differed"].inc()
        self._difference.inc(score_difference)
        self._seconds["primary"].inc(primary_s)
        self._seconds["shadow"].inc(shadow_s)

    def dropped(self) -> None:
        """Counts an input that was not run."""
        self._outcomes["dropped"].inc()

    def failed(self) -> None:
        """Counts an input for which the shadow gave no scores."""
        self._outcomes["failed"].inc()
