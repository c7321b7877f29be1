"""The models in service, by name and version."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol

from batching import QueueFull
from runtime.arrival import Arrival
from runtime.errors import EngineUnavailable, LastModel, ModelLoading, NoWorkers, UnknownModel, VersionTaken
from runtime.kinds.unopened_model import UnopenedModel
from runtime.room import Room
from runtime.stay import AnyDeployment, Stay, Use
from runtime.version import AnyModel, Version
from runtime.version_status import VersionStatus

_RETRY_S = 1.0


class Catalog(Protocol):
    """Finds the model that a request names."""

    def peek(self, name: str | None, version: str | None = None) -> AnyDeployment | None:
        """The deployment, without loading it; None where it would be loaded first.

        Raises:
            UnknownModel: there is none of that name and version.
            NoWorkers: it was scaled to none.
            ModelLoading: the server is starting.
        """
        ...

    async def until_workers(self, name: str | None, version: str | None, deadline: float | None) -> None:
        """Waits for workers that are being started; where none are, it returns at once.

        Args:
            name: of the model; None for the default one.
            version: of it; None for the default one.
            deadline: `time.monotonic()` after which the client does not wait; None: it does for any time.

        Raises:
            UnknownModel: there is none of that name and version.
            NoWorkers: they do not start.
            QueueFull: too many requests wait.
            DeadlineExceeded: the deadline came first.
        """
        ...

    def use(self, name: str | None, version: str | None = None, deadline: float | None = None) -> Use:
        """An async context in which the deployment stays loaded.

        Args:
            name: of the model; None for the default one.
            version: of it; None for the default one.
            deadline: `time.monotonic()` after which its load is not waited for.
        """
        ...


class ModelStore:
    """Finds the version that a request names, and adds, removes and switches versions.

    Attributes:
        expected_at: monotonic time at which the models of the start will probably be loaded; 0: unknown.
    """

    def __init__(
        self,
        models: Mapping[str, AnyModel],
        room: Room,
        on_gone: Callable[[AnyModel], None] | None = None,
        most_waiting: int = 1024,
    ) -> None:
        """Creates it; `load` then loads the models.

        Args:
            models: of the start, by name, at least one; the first is the default.
            room: where they are loaded.
            on_gone: given each model that is not used any more, once it is freed.
            most_waiting: requests for a version whose workers are being started.
        """
        self.expected_at = 0.0
        self._most_waiting = most_waiting
        self._on_gone = on_gone or _ignored
        self._room = room
        self._versions = {name: {model.facts.version: _version(model)} for name, model in models.items()}
        self._models = {(name, model.facts.version): model for name, model in models.items()}
        self._defaults = {name: model.facts.version for name, model in models.items()}

    @property
    def default(self) -> str:
        """Name of the model of a request that names none."""
        return next(iter(self._versions))

    @property
    def models(self) -> dict[str, AnyModel]:
        """The default version of each name."""
        return {name: self._models[name, number] for name, number in self._defaults.items()}

    @property
    def ready(self) -> bool:
        """Whether every resident version is loaded, warm and open."""
        return all(version.deployment and version.deployment.is_open for version in self._resident())

    def unavailable(self) -> EngineUnavailable | None:
        """The error of the first resident model whose engine has ended and is not started again at once."""
        resident = (version.deployment for version in self._resident())
        return next(filter(None, (each.runner.unavailable() for each in resident if each)), None)

    def __iter__(self) -> Iterator[AnyDeployment]:
        """Every deployment that is loaded."""
        return iter(self._room)

    def loaded(self, name: str, version: str | None = None) -> AnyDeployment | None:
        """The deployment of that name, if it is loaded."""
        try:
            return self._find(name, version).deployment
        except UnknownModel:
            return None

    def find(self, name: str | None, version: str | None = None) -> AnyDeployment:
        """The deployment of that name and version, or the default one.

        Raises:
            UnknownModel: there is none.
            NoWorkers: it was scaled to none.
            ModelLoading: it is not loaded.
        """
        deployment = self.awake(name, version).deployment
        if deployment is None:
            raise self.loading()
        return deployment

    def peek(self, name: str | None, version: str | None = None) -> AnyDeployment | None:
        """See Catalog."""
        if self._find(name, version).arrival is not None:
            return None
        found = self.awake(name, version)
        if found.is_resident and found.deployment is None:
            raise self.loading()
        return found.deployment

    async def until_workers(self, name: str | None, version: str | None, deadline: float | None) -> None:
        """See Catalog."""
        found = self._find(name, version)
        if found.arrival is None:
            return
        if found.arrival.waiting >= self._most_waiting:
            raise QueueFull(_RETRY_S)
        if not await found.arrival.wait(deadline):
            raise NoWorkers(found.name, found.number)

    def expect(self, name: str, number: str, workers: bool) -> None:
        """Lets requests for a version without workers wait for some, until `wake`, or not any more.

        Raises:
            UnknownModel: it is not there.
        """
        version = self._find(name, number)
        if not workers:
            version.end_arrival(has_come=False)
        elif version.arrival is None:
            version.arrival = Arrival()

    def expect_none(self) -> None:
        """Refuses all requests that wait for workers: this process gets no further ones."""
        for versions in self._versions.values():
            for version in versions.values():
                version.end_arrival(has_come=False)

    def use(self, name: str | None, version: str | None = None, deadline: float | None = None) -> Use:
        """See Catalog; entering raises as `peek` and `Stay.enter` do."""
        return Use(lambda: self._stay(name, version), deadline)

    def _stay(self, name: str | None, version: str | None) -> Stay:
        found = self.awake(name, version)
        if found.is_resident and found.deployment is None:
            raise self.loading()
        return self._room.stay_of(found)

    def loading(self) -> ModelLoading:
        """The error of a request that comes while the models are loading."""
        return ModelLoading("the models are loading", max(1.0, self.expected_at - time.monotonic()))

    async def load(self) -> None:
        """Loads every resident version, one after the other, and warms each up. Raises ModelError."""
        for version in self._resident():
            await self._room.stay_of(version).ready

    async def add(
        self,
        name: str,
        number: str,
        model: AnyModel,
        judge: Callable[[AnyDeployment], Awaitable[None]] | None = None,
    ) -> AnyDeployment:
        """Loads a resident version; of a name that is new it becomes the default.

        Args:
            name: of the model.
            number: of the version.
            model: that it is.
            judge: may refuse it, before any request can reach it.

        Raises:
            Exception: of `judge`.
            VersionTaken: it is there.
            ModelError: it does not load.
            NoRoom: there is no memory for it.
        """
        version = Version(name, number, lambda: model)
        self._check_free(name, number)
        try:
            deployment = await self._room.stay_of(version).ready
            if judge:
                await judge(deployment)
            self._check_free(name, number)
        except BaseException:
            await self._room.free(version)
            self._on_gone(model)
            raise
        self._enter(version, model)
        return deployment

    def register(self, name: str, number: str, model: AnyModel) -> None:
        """Makes a version known: it is loaded on first use, and may be freed after it. Raises VersionTaken."""
        self._check_free(name, number)
        self._enter(Version(name, number, lambda: model, is_resident=False), model)

    def register_idle(self, name: str, number: str) -> None:
        """Makes a version known that has no workers: it is not opened, and requests are refused until `wake`.

        Raises:
            VersionTaken: it is there.
        """
        self._check_free(name, number)
        model = UnopenedModel(name, number)
        version = Version(name, number, lambda: model)
        version.is_idle = True
        self._enter(version, model)

    async def load_idle(self, name: str, number: str, model: AnyModel) -> None:
        """Loads a version that has no workers; requests are refused still. `rest` takes it back.

        Args:
            name: of the model.
            number: of the version.
            model: that it is from now on.

        Raises:
            UnknownModel: it is not there.
            ModelError: it does not load.
            NoRoom: there is no memory for it.
        """
        version = self._find(name, number)
        version.open_model = lambda: model
        try:
            await self._room.stay_of(version).ready
        except BaseException:
            self._on_gone(model)
            raise
        self._replace(version, model)

    def _replace(self, version: Version, model: AnyModel) -> None:
        """Lets go of the model that the version was."""
        self._on_gone(self._models[version.name, version.number])
        self._models[version.name, version.number] = model

    def is_awake(self, name: str, number: str) -> bool:
        """Whether it is there, and requests reach it."""
        version = self._versions.get(name, {}).get(number)
        return version is not None and not version.is_idle

    def wake(self, name: str, number: str) -> None:
        """Lets requests reach a version that `load_idle` has loaded. Raises UnknownModel."""
        version = self._find(name, number)
        version.is_idle = False
        version.end_arrival(has_come=True)

    async def rest(self, name: str, number: str) -> None:
        """Refuses requests for a version, waits for those that use it, and frees it. Raises UnknownModel."""
        version = self._find(name, number)
        version.is_idle = True
        await self._room.free(version)
        self._replace(version, UnopenedModel(version.name, version.number))

    def _enter(self, version: Version, model: AnyModel) -> None:
        self._versions.setdefault(version.name, {})[version.number] = version
        self._models[version.name, version.number] = model
        self._defaults.setdefault(version.name, version.number)

    def _check_free(self, name: str, number: str) -> None:
        if number in self._versions.get(name, ()):
            raise VersionTaken(f"{name} has a version {number}")

    async def remove(self, name: str, number: str) -> None:
        """Takes a version out of service, waits for the requests that use it, and frees it.

        Raises:
            UnknownModel: it is not there.
            LastModel: it is all that there is.
            ValueError: it is the default among several.
        """
        version = self._find(name, number)
        versions = self._versions[name]
        if len(versions) > 1 and self._defaults[name] == number:
            raise ValueError(f"version {number} is the default one of {name}")
        if len(versions) == 1 and len(self._versions) == 1:
            raise LastModel(f"{name} {number} is the last model")
        version.end_arrival(has_come=False)
        model = self._models.pop((name, number))
        del versions[number]
        if not versions:
            del self._versions[name], self._defaults[name]
        await self._room.free(version)
        self._on_gone(model)

    async def scale(self, name: str, number: str, processes: int) -> None:
        """Runs the engine of a version in so many processes.

        Raises:
            UnknownModel: it is not there.
            ModelLoading: it is not loaded.
            NoWorkers: it was scaled to none; see `load_idle`.
            NotScalable: its engine runs on a thread.
            EngineError: a further process does not load.
        """
        await self.find(name, number).scale(processes)

    def set_default(self, name: str, number: str) -> None:
        """Gives the requests that name no version this one, at once. Raises UnknownModel."""
        self._defaults[name] = self._find(name, number).number

    def model(self, name: str | None, number: str | None = None) -> AnyModel:
        """What is known of a version, loaded or not. Raises UnknownModel."""
        found = self._find(name, number)
        return self._models[found.name, found.number]

    def status(self) -> list[VersionStatus]:
        """What is known of every version."""
        return [
            VersionStatus.of(version, is_default=self._defaults[name] == number)
            for name, versions in self._versions.items()
            for number, version in versions.items()
        ]

    def _resident(self) -> list[Version]:
        versions = (version for versions in self._versions.values() for version in versions.values())
        return [version for version in versions if version.is_resident and not version.is_idle]

    async def close(self) -> None:
        """Runs what is queued, then frees every model."""
        await self._room.close()

    def awake(self, name: str | None, number: str | None = None) -> Version:
        """A version that has workers now. Raises UnknownModel, NoWorkers."""
        version = self._find(name, number)
        if version.is_idle:
            raise NoWorkers(version.name, version.number)
        return version

    def _find(self, name: str | None, number: str | None) -> Version:
        name = self.default if name is None else name
        versions = self._versions.get(name)
        if versions is None:
            raise UnknownModel("No model of that name is loaded.")
        version = versions.get(self._defaults[name] if number is None else number)
        if version is None:
            raise UnknownModel("That model has no such version.")
        return version


def _ignored(model: AnyModel) -> None:
    """Of a store whose models hold nothing but memory."""


def _version(model: AnyModel) -> Version:
    return Version(model.facts.name, model.facts.version, lambda: model)
