"""What the runtime reports; metrics implement it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from batching.batcher import BatchObserver

if TYPE_CHECKING:
    from runtime.deployment import Deployment


class RunnerObserver(Protocol):
    """Is told about the processes of one engine."""

    def process_ended(self, reason: str) -> None:
        """A process ended that was to go on; `reason` is one of `runtime.processes.child.REASONS`."""
        ...


class DeploymentObserver(BatchObserver, RunnerObserver, Protocol):
    """Is told about the items, batches and processes of one deployment."""

    def item_answered(self, phases_s: Mapping[str, float]) -> None:
        """An item has its output; seconds by phase."""
        ...


class Observer(Protocol):
    """Is told which models are in service."""

    def of(self, model: str) -> DeploymentObserver:
        """What a deployment of that model reports to."""
        ...

    def deployed(self, model: str, deployment: Deployment[Any, Any]) -> None:
        """A deployment is ready; its gauges can be read from now on."""
        ...

    def removed(self, model: str) -> None:
        """The deployment of that model is closed."""
        ...
