"""What is asked of models: all are described; archives are registered, scaled, switched, unregistered."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

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
from runtime.processes.restarts import Restarts
from runtime.record import RecordError
from runtime.transition import Key
from server.config import Config
from server.dialects.torchserve.management import words
from server.dialects.torchserve.management.description import Facts, Observed, description, observed
from server.dialects.torchserve.management.other_models import (
    AnyShown,
    NamedModel,
    asked_of,
    limits_of,
    shown,
)
from server.dialects.torchserve.management.parameters import Addition
from server.dialects.torchserve.management.urls import Found, Urls
from server.dialects.torchserve.management.worker_numbers import WorkerNumbers
from server.dialects.torchserve.management.yaml_files import YamlFiles
from server.torchserve.registration import check_requirements, registered

log = logging.getLogger("snapserve")

Operation = Callable[[ModelSet], ModelSet]
_Result = TypeVar("_Result")
_TRIES = 3  # of an asynchronous change


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
        self._counted: dict[Key, int] = {}  # workers of other models, when they were last asked
        self._yaml = YamlFiles(folder)
        self._running: set[asyncio.Task[Any]] = set()
        self._count_workers()

    def names(self) -> dict[str, AnyShown]:
        """The default version of each name, sorted by name."""
        models = self._changes.committed
        found = {each.name: each for each in shown(models, self._config) if _is_default(models, each)}
        return {name: found[name] for name in sorted(found)}

    def _versions(self, name: str) -> dict[str, AnyShown]:
        """Raises Refusal."""
        models = shown(self._changes.committed, self._config)
        found = {each.version: each for each in models if each.name == name}
        if not found:
            raise words.unknown_model(name)
        return found

    def _find(self, name: str, version: str | None) -> AnyShown:
        """One version, by default the default one. Raises Refusal."""
        versions = self._versions(name)
        wanted = self._changes.committed.default_of(name) if version is None else version
        if wanted not in versions:
            raise words.unknown_version(name, wanted)
        return versions[wanted]

    def _find_archive(self, name: str, version: str | None) -> AddedModel:
        """One version that can be changed here, by default the default one. Raises Refusal."""
        model = self._find(name, version)
        if model.archive is None:
            raise words.is_no_archive(name)
        return model

    def check_known(self, name: str) -> None:
        """Raises Refusal for a name that is not shown."""
        self._versions(name)

    def has_workers(self, name: str) -> bool:
        """Whether the default version has workers, those that are loading too. Raises Refusal."""
        model = self._find(name, None)
        return bool(self._workers_of(model)[0])

    def _workers_of(self, model: AnyShown) -> tuple[int, int]:
        if model.archive is None:
            count = self._counted.get(model.key, max(1, self._config.server.workers))
            return count, count
        return self._pending.get(model.key, (model.archive.min_workers, model.archive.max_workers))

    async def register(self, addition: Addition) -> tuple[int, str]:
        """Adds an archive. Returns status and text of the response."""
        found = await self._urls.find(addition.url)
        return await asyncio.shield(self._run(self._register(found, addition)))

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
            self._run(self._start(model, removes=True))
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
        if version not in self._versions(name):
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
        self._count_workers()

    def _count_workers(self) -> None:
        models = shown(self._changes.committed, self._config)
        self._numbers.update({each.key: self._workers_of(each)[0] for each in models})

    async def _begin(self, model: AddedModel, workers: tuple[int, int]) -> None:
        """Begins to scale. Raises Refusal."""
        if model.is_idle and workers[0]:
            await self._change(lambda models: models.starting(*model.key, *workers), model)
            if self._find_archive(*model.key).is_starting:
                self._run(self._start(model, removes=False))
                return
        self._pending[model.key] = workers
        self._run(self._scale_later(model.key, workers))

    def _run(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Goes on, whatever becomes of the request."""
        running = asyncio.ensure_future(work)
        self._running.add(running)
        running.add_done_callback(self._ended)
        return running

    def _ended(self, running: asyncio.Task[Any]) -> None:
        self._running.discard(running)
        if not running.cancelled() and (error := running.exception()):  # the client may have left
            log.debug("management: %s", error)

    async def _scale_later(self, key: Key, workers: tuple[int, int]) -> None:
        try:
            await self._insist(lambda models: models.scaled(*key, *workers), _TRIES)
        except (RuntimeFault, RecordError) as error:
            log.error("%s %s does not get %d workers: %s", *key, workers[0], error)
        finally:
            if self._pending.get(key) is workers:
                del self._pending[key]
            self._count_workers()

    async def _start(self, model: AddedModel, removes: bool) -> None:
        """Starts the workers for which requests wait; removes: takes the version out again when that fails."""
        key = model.key
        try:
            await self._insist(lambda models: models.started(*key), _TRIES)
        except UnknownModel:
            log.info("%s %s was unregistered before it had workers", *key)
        except RuntimeFault as error:
            log.error("%s %s does not get its workers: %s", *key, error)
            with contextlib.suppress(UnknownModel):
                await self._insist(lambda models: models.not_started(*key, removes=removes))
            if removes:
                self._let_go(model)
        self._count_workers()

    async def _insist(self, operation: Operation, tries: float = math.inf) -> None:
        """Changes the set; again after a failure that is not the model's, such as the end of a worker.

        Args:
            operation: committed set -> new set.
            tries: most of them.

        Raises:
            RuntimeFault: it cannot be; ChangeFailed after that many tries.
        """
        restarts = Restarts()
        while True:
            try:
                await self._changes.change(operation, must=True)
                return
            except ChangeFailed as error:
                restarts = restarts.after(None)
                if restarts.failed_starts >= tries:
                    raise
                log.warning("a change of models is tried again in %g s: %s", restarts.delay_s, error)
            await asyncio.sleep(restarts.delay_s)

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
        status, pids = await self._changes.show(), self._changes.pids()
        seen = [observed(model, status, pids) for model in models]
        self._counted |= {
            model.key: len(each.pids) for model, each in zip(models, seen, strict=True) if not model.archive
        }
        self._count_workers()
        found = [await self._described(model, each) for model, each in zip(models, seen, strict=True)]
        if headers is not None and not is_all and models[0].archive:
            found[0]["customizedMetadata"] = await self._metadata(models[0], headers)
        return found

    async def _described(self, model: AnyShown, seen: Observed) -> dict[str, Any]:
        least, most = self._workers_of(model)
        if model.archive:
            asked = dataclasses.replace(model.archive, min_workers=least, max_workers=most)
            yaml = await asyncio.to_thread(self._yaml.of, model.path)
        else:
            asked = asked_of(self._config, least, isinstance(model, NamedModel))
            yaml = limits_of(self._config)
        return description(model, asked, yaml, self._numbers.of(model.key), seen, self._facts)

    async def _metadata(self, model: AnyShown, headers: Mapping[str, str]) -> Any:
        try:
            return await self._changes.describe(*model.key, headers)
        except NoWorkers:
            raise words.nobody_describes(model.name) from None
        except ChangeFailed as error:
            raise words.not_changed(str(error)) from None


def _is_default(models: ModelSet, model: AnyShown) -> bool:
    return models.default_of(model.name) == model.version


def _with(models: ModelSet, model: AddedModel) -> ModelSet:
    """Raises VersionTaken, TooManyModels."""
    if model.name in models.fixed:
        raise VersionTaken(f"{model.name} is a model of the command line.")
    return models.with_model(model)
