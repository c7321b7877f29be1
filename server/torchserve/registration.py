"""What is said of an archive, by a client, a file or itself -> the model that is to be served."""

from __future__ import annotations

from dataclasses import dataclass

from models.archives.open import Description
from runtime.model_set import ARCHIVE, AddedModel, ArchiveAsked
from server.config import TorchServeConfig


@dataclass(frozen=True)
class Registration:
    """What a client or a file says of an archive; None where it says nothing.

    Attributes:
        name: under which it is served.
        handler: that takes the place of its own.
        batch_size: most requests that its handler gets at once.
        max_batch_delay_ms: longest wait for a batch to fill.
        response_timeout_s: longest time for a batch.
        startup_timeout_s: longest time to load.
        workers: processes that run.
        max_workers: processes that may be asked for.
        is_at_start: it was named at the start of the server.
        url: that the client has named.
    """

    name: str | None = None
    handler: str | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    workers: int | None = None
    max_workers: int | None = None
    is_at_start: bool = False
    url: str = ""


def registered(
    path: str, archive: Description, said: Registration, default_workers: int, config: TorchServeConfig
) -> AddedModel:
    """The model of an archive.

    As in TorchServe, the sizes of batches that were said beat those of the archive's YAML file, whose timeouts and
    numbers of workers beat what was said.

    Args:
        path: of the archive, below the model store.
        archive: what it says of itself.
        said: by a client or a file.
        default_workers: where nothing says how many.
        config: of what nothing is said of.

    Raises:
        RecordError: a name or a number cannot be.
    """
    yaml, manifest = archive.config, archive.manifest
    workers = _first(yaml.min_workers, said.workers, default_workers)
    most = _first(yaml.max_workers, said.max_workers, workers)
    asked = ArchiveAsked(
        handler=said.handler or "",
        batch_size=_first(said.batch_size, yaml.batch_size, 1),
        max_batch_delay_ms=_first(said.max_batch_delay_ms, yaml.max_batch_delay_ms, 100),
        response_timeout_s=_first(
            yaml.response_timeout_s, said.response_timeout_s, config.default_response_timeout
        ),
        startup_timeout_s=_first(yaml.startup_timeout_s, said.startup_timeout_s, config.default_startup_timeout),
        min_workers=max(0, workers),
        max_workers=max(0, workers, most),
        is_loaded_at_start=said.is_at_start,
        url=said.url,
    )
    return AddedModel(said.name or manifest.name, manifest.version, path, kind=ARCHIVE, archive=asked)


def _first(*values: int | None) -> int:
    """The first that is a number; the last is one."""
    return next(value for value in values if value is not None)
