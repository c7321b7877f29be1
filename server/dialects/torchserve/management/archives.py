"""What clients may change: archives are registered, scaled, switched and unregistered."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from pathlib import Path

from models.archives.open import describe
from models.errors import ArchiveError, NoManifest, RequirementsRefused
from runtime.added_model import AddedModel
from runtime.errors import (
    ChangeFailed,
    ModelRefused,
    NoWorkers,
    RuntimeFault,
    TooManyChanges,
    TooManyModels,
    UnknownModel,
    VersionInUse,
    VersionTaken,
)
from runtime.folder import StoreFolder
from runtime.model_set import ModelSet
from runtime.record import RecordError
from runtime.transition import Key
from server.config import Config
from server.dialects.torchserve.management import words
from server.dialects.torchserve.management.background import Background
from server.dialects.torchserve.management.changer import Changer
from server.dialects.torchserve.management.parameters import Addition
from server.dialects.torchserve.management.shown_models import ShownModels
from server.dialects.torchserve.management.urls import Found, Urls
from server.management.changer import Operation
from server.torchserve.registration import check_requirements, registered

log = logging.getLogger("snapserve")

_TRIES = 3  # of an asynchronous change


class Archives:
    """The archives of all workers. Its errors are Refusals in TorchServe's words."""

    def __init__(
        self, config: Config, changes: Changer, folder: StoreFolder | None, urls: Urls, models: ShownModels
    ) -> None:
        """Creates it.

        Args:
            config: of the service.
            changes: of all workers.
            folder: the model store; None without one.
            urls: where archives are found.
            models: as clients see them.
        """
        self._config = config
        self._changes = changes
        self._folder = folder
        self._urls = urls
        self._models = models
        self._background = Background(changes)

    def _find_archive(self, name: str, version: str | None) -> AddedModel:
        """One version that can be changed here, by default the default one. Raises Refusal."""
        model = self._models.find(name, version)
        if model.archive is None:
            raise words.is_no_archive(name)
        return model

    async def register(self, addition: Addition) -> tuple[int, str]:
        """Adds an archive. Returns status and text of the response."""
        found = await self._urls.find(addition.url)
        return await asyncio.shield(self._background.run(self._register(found, addition)))

    async def _register(self, found: Found, addition: Addition) -> tuple[int, str]:
        """As `register`; it is not cancelled: what was copied stays exactly if the model is served."""
        try:
            model = await self._read(found, addition)
            return await self._add(model, addition.is_synchronous)
        except BaseException:
            if found.is_copy:
                self._remove_copy(found.path)
            raise

    async def _read(self, found: Found, addition: Addition) -> AddedModel:
        given, folder = self._config.torchserve, self._folder
        assert folder is not None
        said = dataclasses.replace(addition.said, url=found.url)
        try:
            archive = await asyncio.to_thread(describe, folder.resolve(found.path), folder.inside)
            check_requirements(archive.manifest, self._config)
            return registered(found.path, archive, said, given.default_workers_per_model, given)
        except UnknownModel:
            raise words.nothing_at(addition.url) from None
        except NoManifest:
            raise words.no_archive("Model name is not defined.") from None
        except (ArchiveError, RequirementsRefused) as error:
            raise words.no_archive(self._without_store(str(error))) from None
        except RecordError as error:
            raise words.bad_request(f"{error}.") from None

    def _without_store(self, text: str) -> str:
        return text.replace(f"{self._folder.path}/", "") if self._folder else text

    async def _add(self, model: AddedModel, is_synchronous: bool) -> tuple[int, str]:
        assert model.archive is not None
        count = model.archive.min_workers
        if count and not is_synchronous:
            starting = dataclasses.replace(model, archive=dataclasses.replace(model.archive, is_starting=True))
            await self._change(lambda models: _with(models, starting), model)
            self._background.run(self._start(model, removes=True))
            return 202, words.PROCESSING
        await self._change(lambda models: _with(models, model), model, version=model.version)
        hint = "" if count else ". Use scale workers API to add workers for the model."
        text = f'Model "{model.name}" Version: {model.version} registered with {count} initial workers{hint}'
        return 200, text

    async def scale(
        self, name: str, version: str | None, workers: tuple[int, int], is_synchronous: bool
    ) -> tuple[int, str]:
        """Gives a version other numbers of workers. Returns status and text of the response."""
        model = self._find_archive(name, version)
        if not is_synchronous:
            await self._begin(model, workers)
            return 202, words.PROCESSING
        await self._change(lambda models: models.scaled(*model.key, *workers), model, version)
        of_version = "" if version is None else f", version: {version}"
        return 200, f"Workers scaled to {workers[0]} for model: {name}{of_version}"

    async def set_default(self, name: str, version: str) -> str:
        """Gives the requests that name no version this one. Returns the text of the response."""
        if version not in self._models.versions(name):
            raise words.unknown_default(name, version)
        await self._change(lambda models: models.with_default(name, version), self._find_archive(name, version))
        return f'Default version successfully updated for model "{name}" to "{version}"'

    async def unregister(self, name: str, version: str | None) -> str:
        """Removes a version; requests that run are answered first. Returns the text of the response."""
        model = self._find_archive(name, version)
        await self._change(lambda models: models.without(*model.key), model)
        self._let_go(model)
        return f'Model "{name}" unregistered'

    def _let_go(self, model: AddedModel) -> None:
        """Removes the copy that belongs to a version that is gone."""
        if model.archive is not None and "://" in model.archive.url:
            self._remove_copy(model.path)

    def _remove_copy(self, path: str) -> None:
        """Unless another model needs it."""
        assert self._folder is not None
        if not any(each.path == path for each in self._changes.committed.added):
            Path(self._folder.path, path).unlink(missing_ok=True)

    async def _change(self, operation: Operation, model: AddedModel, version: str | None = None) -> None:
        """Raises Refusal; version: as the client has named it."""
        try:
            await self._changes.change(operation)
        except VersionTaken:
            raise words.is_registered(*model.key) from None
        except VersionInUse:
            raise words.is_default(model.name) from None
        except UnknownModel:  # it was removed meanwhile, or its file
            raise words.unknown_version(*model.key) from None
        except (ModelRefused, NoWorkers) as error:
            log.warning("%s %s does not start: %s", *model.key, error)
            raise words.not_started(model.name, version) from None
        except RecordError as error:
            raise words.bad_request(f"{error}.") from None
        except (ChangeFailed, TooManyChanges, TooManyModels) as error:
            raise words.not_changed(str(error)) from None
        self._models.count_workers()

    async def _begin(self, model: AddedModel, workers: tuple[int, int]) -> None:
        """Begins to scale. Raises Refusal."""
        if model.is_idle and workers[0]:
            await self._change(lambda models: models.starting(*model.key, *workers), model)
            if self._find_archive(*model.key).is_starting:
                self._background.run(self._start(model, removes=False))
                return
        self._models.pending[model.key] = workers
        self._background.run(self._scale_later(model.key, workers))

    async def _scale_later(self, key: Key, workers: tuple[int, int]) -> None:
        try:
            await self._background.insist(lambda models: models.scaled(*key, *workers), _TRIES)
        except (RuntimeFault, RecordError) as error:
            log.error("%s %s does not get %d workers: %s", *key, workers[0], error)
        finally:
            if self._models.pending.get(key) is workers:
                del self._models.pending[key]
            self._models.count_workers()

    async def _start(self, model: AddedModel, removes: bool) -> None:
        """Starts the workers for which requests wait; removes: takes the version out again when that fails."""
        key = model.key
        try:
            await self._background.insist(lambda models: models.started(*key), _TRIES)
        except UnknownModel:
            log.info("%s %s was unregistered before it had workers", *key)
        except RuntimeFault as error:
            log.error("%s %s does not get its workers: %s", *key, error)
            with contextlib.suppress(UnknownModel):
                await self._background.insist(lambda models: models.not_started(*key, removes=removes))
            if removes:
                self._let_go(model)
        self._models.count_workers()


def _with(models: ModelSet, model: AddedModel) -> ModelSet:
    """Raises VersionTaken, TooManyModels."""
    if model.name in models.fixed:
        raise VersionTaken(f"{model.name} is a model of the command line.")
    return models.with_model(model)
