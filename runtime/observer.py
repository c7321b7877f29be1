"""What the runtime reports; metrics implement it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from batching.batcher import BatchObserver

if TYPE_CHECKING:
    from runtime.deployment import Deployment
    from runtime.model import ModelFacts


class DeploymentObserver(BatchObserver, Protocol):
    """Is told about the items and batches of one deployment."""

    def item_answered(self, phases_s: Mapping[str, float]) -> None:
        """An item has its output; seconds by phase."""
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
