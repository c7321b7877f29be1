"""What is known of a version that is served, for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.runner import ScalableRunner
from runtime.version import Version


@dataclass(frozen=True)
class VersionStatus:
    """What is known of a version.

    Attributes:
        name: of the model.
        version: its number.
        is_default: requests that name no version get it.
        state: "known", "loading", "loaded", or "idle": it has no workers.
        users: requests that use it or wait for it.
        memory: bytes that it takes, measured; 0: unknown.
        queued: inputs that wait for a batch.
        pids: process ids of its engine, by place; -1 where none runs now; () for one on a thread.
    """

    name: str
    version: str
    is_default: bool
    state: str
    users: int
    memory: int
    queued: int = 0
    pids: tuple[int, ...] = ()

    @classmethod
    def of(cls, version: Version, is_default: bool) -> VersionStatus:
        """What is known of a version now."""
        deployment, runner = version.deployment, version.deployment.runner if version.deployment else None
        return cls(
            version.name,
            version.number,
            is_default,
            _state(version),
            version.stay.users if version.stay else 0,
            version.memory,
            deployment.batcher.queued if deployment else 0,
            tuple(runner.pids_by_place) if isinstance(runner, ScalableRunner) else (),
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, without the name."""
        return {
            "version": self.version,
            "default": self.is_default,
            "state": self.state,
            "users": self.users,
            "memory_bytes": self.memory,
            "queued": self.queued,
            "pids": list(self.pids),
        }


def _state(version: Version) -> str:
    if version.is_idle:
        return "loading" if version.arrival else "idle"
    if version.stay is None:
        return "known"
    return "loaded" if version.deployment else "loading"
