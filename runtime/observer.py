"""What the runtime reports; metrics implement it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from batching.batcher import BatchObserver

if TYPE_CHECKING:
    from runtime.deployment import Deployment
    from runtime.inputs import Input
    from runtime.model import ModelFacts
    from runtime.outputs import Output
    from runtime.phases import PhaseClock


class RunnerObserver(Protocol):
    """Is told about the processes of one engine."""

    def process_ended(self, reason: str) -> None:
        """A process ended that was to go on; `reason` is one of `runtime.processes.child.REASONS`."""
        ...


@runtime_checkable
class ReportObserver(Protocol):
    """A RunnerObserver that also wants what an engine reports in its process."""

    def reported(self, report: Any) -> None:
        """An engine has answered a batch; `report`: what goes with it, as a JSON value.

        Of a handler it is a list of metrics: `models.handlers.metrics.metric.Metric.to_json`.
        """
        ...


class DeploymentObserver(BatchObserver, RunnerObserver, Protocol):
    """Is told about the items, batches and processes of one deployment."""

    def item_answered(self, phases_s: Mapping[str, float]) -> None:
        """An item has its output; seconds by phase."""
        ...

    def item_failed(self, seconds: float) -> None:
        """An item has none, after so many seconds: it was refused, it failed, or its client left."""
        ...


class Audience(Protocol):
    """Is told what became of each input of one deployment, before its client is."""

    def answered(self, given: Input, output: Output, clock: PhaseClock) -> None:
        """An input has its output. What `given` refers to may be gone after the call."""
        ...

    def failed(self, error: Exception) -> None:
        """An input has none."""
        ...

    def report(self) -> Mapping[str, Any]:
        """What GET /models shows of it."""
        ...


class Observer(Protocol):
    """Is told which models are in service."""

    def of(self, facts: ModelFacts) -> DeploymentObserver:
        """What a deployment of that model reports to."""
        ...

    def deployed(self, deployment: Deployment[Any, Any]) -> None:
        """A deployment is ready; its gauges can be read from now on."""
        ...

    def removed(self, deployment: Deployment[Any, Any]) -> None:
        """The deployment is closed."""
        ...

    def evicted(self) -> None:
        """A deployment is evicted for another one; `removed` follows when its requests have ended."""
        ...


class ShadowObserver(Protocol):
    """Is told about the inputs that a shadow has taken."""

    def compared(self, agreed: bool, score_difference: float, primary_s: float, shadow_s: float) -> None:
        """Both versions have answered an input.

        Args:
            agreed: whether they have the same best label.
            score_difference: of the primary's best label, absolute, 0 to 1.
            primary_s: from acceptance to the scores, in seconds.
            shadow_s: likewise.
        """
        ...

    def dropped(self) -> None:
        """An input was not run: the backlog was full, or the shadow was closed."""
        ...

    def failed(self) -> None:
        """The shadow gave no scores for an input that the primary has answered."""
        ...
