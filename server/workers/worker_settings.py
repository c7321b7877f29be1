"""What the supervisor tells a worker at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from server.config import Config


@dataclass(frozen=True)
class WorkerSettings:
    """All that a worker is told at its start.

    Attributes:
        number: its place among the workers, from 0.
        config: its own.
        channel: descriptor of its end of the channel to the supervisor.
        lifeline: descriptor of a pipe that is closed when the supervisor has ended.
        metrics: folder of the figures that the workers share.
    """

    number: int
    config: Config
    channel: int
    lifeline: int
    metrics: Path
