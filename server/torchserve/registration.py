"""What is said of an archive, by a client, a file or itself -> the model that is to be served."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from models.archives.archive import Manifest
from models.archives.open import Description
from models.errors import RequirementsRefused
from runtime.added_model import ARCHIVE, AddedModel
from runtime.archive_settings import ArchiveWishes, settled
from server.config import Config, TorchServeConfig

# TorchServe's name of a setting -> ours, in snapshots and in `models` of config.properties.
NUMBERS = {
    "minWorkers": "min_workers",
    "maxWorkers": "max_workers",
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay_ms",
    "responseTimeout": "response_timeout_s",
    "startupTimeout": "startup_timeout_s",
}


@dataclass(frozen=True)
class Registration:
    """The settings of an archive, by a client or a file.

    Attributes:
        name: under which it is served; "": its own.
        wishes: how it is to be run.
        url: that the client has named; "": the path.
    """

    name: str = ""
    wishes: ArchiveWishes = field(default_factory=ArchiveWishes)
    url: str = ""


def registered(
    path: str, archive: Description, said: Registration, workers: int, config: TorchServeConfig
) -> AddedModel:
    """The model of an archive.

    Args:
        path: of the archive, below the model store.
        archive: its manifest and settings.
        said: by a client or a file.
        workers: processes, where neither gives a number.
        config: defaults of the other settings.

    Raises:
        RecordError: a name or a number cannot be.
    """
    defaults = {
        "response_timeout_s": config.default_response_timeout,
        "startup_timeout_s": config.default_startup_timeout,
    }
    unsaid = {name: value for name, value in defaults.items() if getattr(said.wishes, name) < 0}
    wishes = dataclasses.replace(said.wishes, **unsaid)  # type: ignore[arg-type]
    asked = dataclasses.replace(settled(wishes, archive.config, workers), url=said.url)
    manifest = archive.manifest
    return AddedModel(said.name or manifest.name, manifest.version, path, kind=ARCHIVE, archive=asked)


def check_requirements(manifest: Manifest, config: Config) -> None:
    """Raises RequirementsRefused for an archive that asks for packages, where none are to be installed."""
    if manifest.requirements_file and not config.models.install_requirements:
        asks = f"asks for packages ({manifest.requirements_file})"
        raise RequirementsRefused(f"{manifest.name}: {asks}; --install-requirements installs them")
