"""What is asked of the archives that are served: registered, scaled, switched, unregistered, described."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from models.archives.open import describe
from models.errors import ArchiveError, NoManifest, RequirementsRefused
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
from runtime.model_set import AddedModel, ArchiveAsked, ModelSet
from runtime.record import RecordError
from runtime.transition import Key
from server.config import Config
from server.dialects.torchserve.management import words
from server.dialects.torchserve.management.description import Facts, description, observed
from server.dialects.torchserve.management.parameters import Addition
from server.dialects.torchserve.management.urls import Found, Urls
from server.dialects.torchserve.management.worker_numbers import WorkerNumbers
from server.dialects.torchserve.management.yaml_files import YamlFiles
from server.torchserve.registration import check_requirements, registered

log = logging.getLogger("snapserve")

Operation = Callable[[ModelSet], ModelSet]


class Changer(Protocol):
    """Changes the models of all workers; see `server.workers.changes.Changes`."""

    committed: ModelSet

    async def change(self, operation: Operation, /, must: bool = False) -> ModelSet:
        """Changes the set; raises a RuntimeFault where it stays as it was."""
        ...

    async def show(self) -> Mapping[int, Sequence[Mapping[str, Any]]]:
        """The state of the models in each worker."""
        ...

    def pids(self) -> Mapping[int, int]:
        """The process id of each worker."""
        ...

    async def describe(self, name: str, version: str, headers: Mapping[str, str], /) -> Any:
        """The description that the handler of an archive gives."""
        ...


class Archives:
    """The archives of all workers. Its errors are Refusals in TorchServe's words."""

    def __init__(self, config: Config, changes: Changer, folder: StoreFolder | None, urls: Urls) -> None:
        """Creates it.

        Args:
            config: of the service.
            changes: of all workers.
            folder: the model store; None without one.
            urls: where archives are found.
        """
        self._config = config
        self._changes = changes
        self._folder = folder
        self._urls = urls
        self._numbers = WorkerNumbers()
        self._facts = Facts("gpu" if config.models.device == "cuda" else "cpu", config.torchserve.job_queue_size)
        self._pending: dict[Key, tuple[int, int]] = {}  # workers that a change under way is to give
        self._yaml = YamlFiles(folder)
        self._running: set[asyncio.Task[None]] = set()
        self._count_workers()

    def names(self) -> dict[str, AddedModel]:
        """The default version of each name, sorted by name."""
        models = self._changes.committed
        found = {each.name: each for each in models.added if each.archive and _is_default(models, each)}
        return {name: found[name] for name in sorted(found)}

    def _versions(self, name: str) -> dict[str, AddedModel]:
        """Raises Refusal."""
        models = self._changes.committed
        known = (models.find(name, version) for version in models.versions(name))
        found = {each.version: each for each in known if each and each.archive}
        if not found:
            raise words.unknown_model(name)
        return found

    def _find(self, name: str, version: str | None) -> AddedModel:
        """One version, by default the default one. Raises Refusal."""
        versions = self._versions(name)
        wanted = self._changes.committed.default_of(name) if version is None else version
        if wanted not in versions:
            raise words.unknown_version(name, wanted)
        return versions[wanted]

    def check_known(self, name: str) -> None:
        """Raises Refusal for a name of no archive."""
        self._versions(name)

    def has_workers(self, name: str) -> bool:
        """Whether the default version has workers, those that are loading too. Raises Refusal."""
        model = self._find(name, None)
        return bool(self._workers_of(model)[0])

    def _workers_of(self, model: AddedModel) -> tuple[int, int]:
        asked = model.archive or ArchiveAsked()
        return self._pending.get(model.key, (asked.min_workers, asked.max_workers))

    async def register(self, addition: Addition) -> tuple[int, str]:
        """Adds an archive. Returns status and text of the response."""
        found = await self._urls.find(addition.url)
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
            none = dataclasses.replace(model, archive=dataclasses.replace(model.archive, min_workers=0))
            await self._change(lambda models: _with(models, none), model)
            self._begin(model.key, (count, model.archive.max_workers), removes=True)
            return 202, words.PROCESSING
        await self._change(lambda models: _with(models, model), model, version=model.version)
        hint = "" if count else ". Use scale workers API to add workers for the model."
        text = f'Model "{model.name}" Version: {model.version} registered with {count} initial workers{hint}'
        return 200, text

    async def scale(
        self, name: str, version: str | None, workers: tuple[int, int], is_synchronous: bool
    ) -> tuple[int, str]:
        """Gives a version other numbers of workers. Returns status and text of the response."""
        model = self._find(name, version)
        if not is_synchronous:
            self._begin(model.key, workers)
            return 202, words.PROCESSING
        await self._change(lambda models: models.scaled(*model.key, *workers), model, version)
        of_version = "" if version is None else f", version: {version}"
        return 200, f"Workers scaled to {workers[0]} for model: {name}{of_version}"

    async def set_default(self, name: str, version: str) -> str:
        """Gives the requests that name no version this one. Returns the text of the response."""
        if version not in self._versions(name):
            raise words.unknown_default(name, version)
        await self._change(lambda models: models.with_default(name, version), self._find(name, version))
        return f'Default version successfully updated for model "{name}" to "{version}"'

    async def unregister(self, name: str, version: str | None) -> str:
        """Removes a version; requests that run are answered first. Returns the text of the response."""
        model = self._find(name, version)
        await self._change(lambda models: models.without(*model.key), model)
        is_copy = model.archive is not None and "://" in model.archive.url
        if is_copy and not any(each.path == model.path for each in self._changes.committed.added):
            self._remove_copy(model.path)
        return f'Model "{name}" unregistered'

    def _remove_copy(self, path: str) -> None:
        assert self._folder is not None
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
        self._count_workers()

    def _count_workers(self) -> None:
        models = [each for each in self._changes.committed.added if each.archive]
        self._numbers.update({each.key: self._workers_of(each)[0] for each in models})

    def _begin(self, key: Key, workers: tuple[int, int], removes: bool = False) -> None:
        """Begins to scale; removes: takes the version out again when that fails."""
        running = asyncio.ensure_future(self._scale_later(key, workers, removes))
        self._pending[key] = workers
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _scale_later(self, key: Key, workers: tuple[int, int], removes: bool) -> None:
        try:
            await self._changes.change(lambda models: models.scaled(*key, *workers), must=True)
        except (RuntimeFault, RecordError) as error:
            log.error("%s %s does not get %d workers: %s", *key, workers[0], error)
            if removes:
                await self._give_up(key)
        finally:
            if self._pending.get(key) == workers:
                del self._pending[key]
            self._count_workers()

    async def _give_up(self, key: Key) -> None:
        try:
            await self._changes.change(lambda models: models.without(*key), must=True)
        except RuntimeFault as error:
            log.error("%s %s stays, without workers: %s", *key, error)

    async def describe(
        self, name: str, version: str | None, is_all: bool, headers: Mapping[str, str] | None
    ) -> list[dict[str, Any]]:
        """The objects of one version, or of all.

        Args:
            name: of the model.
            version: of it; None for the default one.
            is_all: every version is described.
            headers: of a request that asks for the handler's description; None: it does not.
        """
        models = list(self._versions(name).values()) if is_all else [self._find(name, version)]
        if headers is not None and not is_all and not self._workers_of(models[0])[0]:
            raise words.nobody_describes(name)
        self._count_workers()
        status, pids = await self._changes.show(), self._changes.pids()
        found = [await self._described(model, status, pids) for model in models]
        if headers is not None and not is_all:
            found[0]["customizedMetadata"] = await self._metadata(models[0], headers)
        return found

    async def _described(
        self, model: AddedModel, status: Mapping[int, Sequence[Mapping[str, Any]]], pids: Mapping[int, int]
    ) -> dict[str, Any]:
        least, most = self._workers_of(model)
        asked = dataclasses.replace(model.archive or ArchiveAsked(), min_workers=least, max_workers=most)
        shown = dataclasses.replace(model, archive=asked)
        yaml = await asyncio.to_thread(self._yaml.of, model.path)
        return description(shown, yaml, self._numbers.of(model.key), observed(model, status, pids), self._facts)

    async def _metadata(self, model: AddedModel, headers: Mapping[str, str]) -> Any:
        try:
            return await self._changes.describe(*model.key, headers)
        except NoWorkers:
            raise words.nobody_describes(model.name) from None
        except ChangeFailed as error:
            raise words.not_changed(str(error)) from None


def _is_default(models: ModelSet, model: AddedModel) -> bool:
    return models.default_of(model.name) == model.version


def _with(models: ModelSet, model: AddedModel) -> ModelSet:
    """Raises VersionTaken, TooManyModels."""
    if model.name in models.fixed:
        raise VersionTaken(f"{model.name} is a model of the command line.")
    return models.with_model(model)
