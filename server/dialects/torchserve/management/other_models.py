"""Models that are no archives, as the management API shows them: described here, and changed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.archives.config import ArchiveConfig
from runtime.added_model import MOST_PROCESSES, AddedModel, ArchiveAsked
from runtime.model_set import ModelSet
from server.config import Config


@dataclass(frozen=True)
class NamedModel:
    """A model that `--model` names.

    Attributes:
        name: of it.
        version: of it.
        path: the last part of its path, for clients need not know where it lies.
        archive: it is none.
    """

    name: str
    version: str
    path: str
    archive: None = None

    @property
    def key(self) -> tuple[str, str]:
        """Its name and version."""
        return self.name, self.version


AnyShown = AddedModel | NamedModel


def shown(models: ModelSet, config: Config) -> Iterator[AnyShown]:
    """All that clients can ask, but for the default model where `--model` names none.

    Args:
        models: that are served.
        config: of the service.
    """
    words = dict(zip(models.fixed, config.models.model, strict=False))
    for name, version in models:
        added = models.find(name, version)
        if added is not None:
            yield added
        elif name in words:
            yield NamedModel(name, version, Path(words[name]).name.removeprefix(f"{name}="))


def asked_of(config: Config, workers: int, is_named: bool) -> ArchiveAsked:
    """How it is run, in the words of an archive.

    Args:
        config: of the service.
        workers: that run it.
        is_named: it was there at the start.
    """
    workers = min(workers, MOST_PROCESSES)
    return ArchiveAsked(
        batch_size=max(1, config.batching.max_batch_size),
        max_batch_delay_ms=round(config.batching.batch_timeout_ms),
        response_timeout_s=round(config.limits.request_timeout_ms / 1000),
        min_workers=workers,
        max_workers=workers,
        is_loaded_at_start=is_named,
    )


def limits_of(config: Config) -> ArchiveConfig:
    """What the YAML file of an archive would say."""
    return ArchiveConfig(
        client_timeout_ms=round(config.limits.request_timeout_ms), job_queue_size=config.batching.queue_limit
    )
