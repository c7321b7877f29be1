"""The APIs that the supervisor answers itself. Importing this imports aiohttp."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from server.config import Config
from server.dialects.torchserve.management.listener import torchserve_listener
from server.management.listener import Listener, ManagementListener
from server.operations.torchserve_metrics import TorchServeMetrics
from server.workers.changes import Changes
from server.workers.managed_ports import ManagedPorts


def listeners_of(config: Config, changes: Changes, ports: ManagedPorts, counts: bool) -> list[Listener]:
    """What answers on these ports; it does not listen yet.

    Args:
        config: of the service.
        changes: of all workers.
        ports: where requests come.
        counts: whether the figures of this process are shown by the workers.

    Raises:
        ConfigError: a token or a certificate cannot be read.
        ModelError: the model store cannot be read.
    """
    found: list[Listener] = []
    if ports.own:
        found.append(ManagementListener(config, changes, ports.own))
    if ports.torchserve:
        is_counted = counts and ports.inner is None
        count = TorchServeMetrics(CollectorRegistry()).count_response if is_counted else _count_nothing
        found.append(
            torchserve_listener(config, changes, ports.torchserve, count, is_inner=ports.inner is not None)
        )
    return found


def _count_nothing(status: int) -> None:
    """No page shows it, or a worker counts it."""
