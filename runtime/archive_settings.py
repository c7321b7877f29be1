"""How an archive is run: what a request asks for, and what the archive's YAML file says, in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from models.archives.config import ArchiveConfig
from runtime.added_model import MOST_PROCESSES, ArchiveAsked

BATCH_SIZE = 1
MAX_BATCH_DELAY_MS = 100
TIMEOUT_S = 120
JOB_QUEUE_SIZE = 100

_NOT_SAID = -1


@dataclass(frozen=True)
class ArchiveWishes:
    """What a request asks for; "" or a negative number: not given.

    Attributes as those of `ArchiveAsked`.
    """

    handler: str = ""
    batch_size: int = _NOT_SAID
    max_batch_delay_ms: int = _NOT_SAID
    response_timeout_s: int = _NOT_SAID
    startup_timeout_s: int = _NOT_SAID
    min_workers: int = _NOT_SAID
    max_workers: int = _NOT_SAID
    is_loaded_at_start: bool = False


class Registered(NamedTuple):
    """An archive as it was registered.

    Attributes:
        asked: how it is run.
        config: what its YAML file says.
        job_queue_size: most requests that wait, where that has no such key.
    """

    asked: ArchiveAsked
    config: ArchiveConfig
    job_queue_size: int = JOB_QUEUE_SIZE

    @property
    def most_waiting(self) -> int:
        """Most requests that wait for a process."""
        return 0 if self.config.use_job_ticket else self.config.job_queue_size or self.job_queue_size


def settled(wishes: ArchiveWishes, config: ArchiveConfig, workers: int = 0) -> ArchiveAsked:
    """The settings with which an archive is registered.

    The request has the last word on batches, the archive on time limits and processes.

    Args:
        wishes: of the request.
        config: of the archive.
        workers: processes where neither says how many.

    Raises:
        RecordError: a number is out of its range.
    """
    least = _first(config.min_workers, wishes.min_workers, workers)
    most = _first(config.max_workers, wishes.max_workers, least)
    return ArchiveAsked(
        handler=wishes.handler,
        batch_size=_first(wishes.batch_size, config.batch_size, BATCH_SIZE),
        max_batch_delay_ms=_first(wishes.max_batch_delay_ms, config.max_batch_delay_ms, MAX_BATCH_DELAY_MS),
        response_timeout_s=_first(config.response_timeout_s, wishes.response_timeout_s, TIMEOUT_S),
        startup_timeout_s=_first(config.startup_timeout_s, wishes.startup_timeout_s, TIMEOUT_S),
        min_workers=min(least, MOST_PROCESSES),
        max_workers=min(max(least, most), MOST_PROCESSES),
        is_loaded_at_start=wishes.is_loaded_at_start,
    )


def _first(*numbers: int | None) -> int:
    """The first value that is given."""
    return next(number for number in numbers if number is not None and number >= 0)
