"""The archives that are served from the start: those of a snapshot, or those that the options name."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.archives.classifier import has_form
from models.archives.open import describe
from models.errors import ArchiveError, RequirementsRefused
from models.machine.resources import usable_cores, usable_memory
from runtime.added_model import AddedModel
from runtime.archive_settings import ArchiveWishes
from runtime.errors import RuntimeFault, UnknownModel
from runtime.folder import StoreFolder
from runtime.model_set import ModelSet
from runtime.record import RecordError
from server.config import Config, ConfigError
from server.model_options import store_folder
from server.torchserve.registration import NUMBERS, Registration, check_requirements, registered
from server.torchserve.settings import SNAPSHOT, read_file
from server.torchserve.snapshots import newest, remembered

log = logging.getLogger("snapserve")

ALL = "all"
_MOST_WORKERS = 8
_MEMORY_PER_WORKER = 1_000_000_000  # bytes; twice what a process with a small network takes
_SEPARATOR = re.compile(r"[,\s]+")


def models_at_start(config: Config, models: ModelSet) -> ModelSet:
    """A set of models with the archives of TorchServe's start, in place of those that it has.

    Args:
        config: of the service.
        models: those of the command line and of the journal.

    Raises:
        ConfigError: an option, a snapshot or a file that was named is wrong.
        ModelError: an archive that was named cannot be served.
    """
    if not config.torchserve.is_on:
        return models
    models = models.without_archives()
    folder = store_folder(config.models)
    if folder is None:
        if config.models.model and not config.torchserve.models:
            return models
        raise ConfigError("--torchserve needs --model-store FOLDER, in which its archives are, or --model")
    file = snapshot_file(config)
    properties = read_file(file) if file else {}
    try:
        if file and SNAPSHOT in properties:
            found = remembered(properties[SNAPSHOT], file)
            _check_there(found.models, folder, file)
            more = "; --models is ignored (--ncs starts without snapshots)" if config.torchserve.models else ""
            log.info("%s: its %d archives are served%s", file, len(found.models), more)
            return found.restore(models)
        for model in _named(config, folder):
            models = models.with_model(model)
    except RuntimeFault as error:
        raise ConfigError(f"--models: {error}") from None
    return models


def snapshot_file(config: Config) -> Path | None:
    """The file that may hold a snapshot: config.properties itself, or the newest one; None without any."""
    given = config.torchserve
    return given.ts_config or (None if given.ncs else newest(given.snapshots))


def _check_there(models: tuple[AddedModel, ...], folder: StoreFolder, file: Path) -> None:
    for model in models:
        try:
            folder.resolve(model.path)
        except UnknownModel:
            hint = "--ncs starts without the snapshot"
            raise ConfigError(f"{file}: {model.path} is not in the model store; {hint}") from None


def _named(config: Config, folder: StoreFolder) -> Iterator[AddedModel]:
    """Raises ConfigError, ModelError."""
    given = config.torchserve
    settings = _settings(given.model_settings)
    words = [word for word in _SEPARATOR.split(given.models) if word]
    if words == [ALL]:
        for path in _candidates(folder.path):
            try:
                yield _model(path, "", settings, config, folder)
            except (ArchiveError, RequirementsRefused, RecordError, UnknownModel) as error:
                log.warning("--models all: %s is left out: %s", path, error)
        return
    for word in words:
        name, _, path = word.rpartition("=")
        try:
            yield _model(path, name, settings, config, folder)
        except (RecordError, UnknownModel) as error:
            raise ConfigError(f"--models {word}: {error}") from None


def _candidates(folder: Path) -> list[str]:
    """Files with the name of an archive, and folders with a manifest."""
    return sorted(path.name for path in folder.iterdir() if path.name[:1] != "." and has_form(path))


def _model(path: str, name: str, settings: Mapping[str, Any], config: Config, folder: StoreFolder) -> AddedModel:
    """Raises UnknownModel, ModelError, RecordError."""
    archive = describe(folder.resolve(path), folder.inside)
    check_requirements(archive.manifest, config)
    manifest = archive.manifest
    told = settings.get(name or manifest.name, {}).get(manifest.version, {})
    numbers = {field: told[key] for key, field in NUMBERS.items() if key in told}
    said = Registration(name, ArchiveWishes(is_loaded_at_start=True, **numbers))
    return registered(path, archive, said, workers_at_start(config), config.torchserve)


def workers_at_start(config: Config) -> int:
    """Processes of an archive that is named at the start: one per core, as far as there is memory for them."""
    if config.torchserve.default_workers_per_model:
        return config.torchserve.default_workers_per_model
    fit = (usable_memory() or _MEMORY_PER_WORKER * _MOST_WORKERS) // _MEMORY_PER_WORKER
    return max(1, min(usable_cores(), _MOST_WORKERS, fit))


def _settings(text: str) -> Mapping[str, Any]:
    """By name and version. Raises ConfigError."""
    if not text:
        return {}
    try:
        document = json.loads(text)
        for versions in document.values():
            for told in versions.values():
                if any(type(told[key]) is not int for key in NUMBERS if key in told):
                    raise ValueError
    except (AttributeError, TypeError, ValueError, RecursionError):
        example = '{"NAME": {"1.0": {"minWorkers": 1, "batchSize": 4}}}'
        raise ConfigError(f"--model-settings (models of config.properties): must be JSON like {example}") from None
    return dict(document)
