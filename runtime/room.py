"""The memory for models: which are loaded, and which are evicted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from runtime.errors import NoRoom
from runtime.observer import Observer
from runtime.stay import AnyDeployment, Stay
from runtime.version import AnyModel, Version


@dataclass(frozen=True)
class Capacity:
    """How much there is room for.

    Attributes:
        max_models: most models that are loaded on first use; 0: no limit.
        memory: bytes for all models; 0: no limit.
    """

    max_models: int = 0
    memory: int = 0


class Meter(Protocol):
    """Measures what a model takes."""

    async def measure(self, deployment: AnyDeployment, /) -> int:
        """Starts a deployment, and returns the bytes that it takes. Raises ModelError."""
        ...


class Room:
    """Loads models, one at a time, and frees those that were asked for longest ago where there is no room."""

    def __init__(
        self,
        deploy: Callable[[AnyModel, bool], AnyDeployment],
        capacity: Capacity | None = None,
        observer: Observer | None = None,
        meter: Meter | None = None,
    ) -> None:
        """Creates it, empty.

        Args:
            deploy: makes the deployment of a model, which is not started yet; told whether it is resident.
            capacity: how much there is room for.
            observer: is told which models are in service.
            meter: of their memory; without it they count nothing.
        """
        self._deploy = deploy
        self._capacity = capacity or Capacity()
        self._observer = observer
        self._meter = meter
        self._loaded: list[Version] = []
        self._leaving: dict[Version, set[asyncio.Task[None]]] = {}
        self._turn = asyncio.Lock()  # loads at once would each measure the others' memory
        self._asked = 0

    def __iter__(self) -> Iterator[AnyDeployment]:
        """What is loaded."""
        return (version.deployment for version in list(self._loaded) if version.deployment)

    @property
    def memory(self) -> int:
        """Bytes that the loaded models take, as they were measured."""
        return sum(version.memory for version in self._loaded)

    def stay_of(self, version: Version) -> Stay:
        """Its stay in memory, which begins where there is none, on the running event loop."""
        self._asked += 1
        version.asked = self._asked
        if version.stay is None:
            version.stay = Stay(lambda stay: self._load(version, stay))
        return version.stay

    async def free(self, version: Version) -> None:
        """Frees a version when the requests that use it have ended; later ones wait for a new load."""
        stay, version.stay = version.stay, None
        if stay is not None:
            leaving = asyncio.ensure_future(self._free(version, stay))
            self._leaving.setdefault(version, set()).add(leaving)
            leaving.add_done_callback(lambda _: self._left(version, leaving))
        if version in self._leaving:  # more than once where it was loaded again while requests used the last load
            await asyncio.shield(asyncio.gather(*self._leaving[version]))

    def _left(self, version: Version, leaving: asyncio.Task[None]) -> None:
        self._leaving[version].discard(leaving)
        if not self._leaving[version]:
            del self._leaving[version]

    async def _free(self, version: Version, stay: Stay) -> None:
        await asyncio.wait([stay.ready])  # it may not have loaded
        await stay.end()
        if stay.deployment is not None:
            self._loaded.remove(version)
            if self._observer:
                self._observer.removed(stay.deployment)
        if version.on_freed:
            version.on_freed()

    async def close(self) -> None:
        """Runs what is queued, then frees every model."""
        for version in list(self._loaded):
            await self.free(version)

    async def _load(self, version: Version, stay: Stay) -> AnyDeployment:
        try:
            async with self._turn:
                return await self._load_alone(version)
        except BaseException:
            if version.stay is stay:
                version.stay = None
            if version.on_freed and version.stay is None:
                version.on_freed()
            raise

    async def _load_alone(self, version: Version) -> AnyDeployment:
        model = await asyncio.to_thread(version.open_model)
        await self._make_room(version, version.memory or model.facts.size)
        deployment = self._deploy(model, version.is_resident)
        try:
            version.memory = await self._start(deployment)
            await self._make_fit(version)
        except BaseException:
            await deployment.close(drain=False)
            raise
        self._loaded.append(version)
        if self._observer:
            self._observer.deployed(deployment)
        return deployment

    async def _start(self, deployment: AnyDeployment) -> int:
        if self._meter:
            return await self._meter.measure(deployment)
        await deployment.start()
        return 0

    async def _make_room(self, version: Version, size: int) -> None:
        """Before a load. Raises NoRoom, before anything is freed."""
        self._check_size(version, size)
        while self._exceeds(size) or self._is_full(version):
            await self._evict(self._first_to_go())

    def _is_full(self, version: Version) -> bool:
        most = self._capacity.max_models
        return bool(most) and not version.is_resident and len(self._guests()) >= most

    async def _make_fit(self, version: Version) -> None:
        """After a load that took more than was expected. Raises NoRoom."""
        self._check_size(version, version.memory)
        while self._exceeds(version.memory):
            await self._evict(self._first_to_go())

    async def _evict(self, version: Version) -> None:
        if self._observer and version.stay:  # else it is being freed already, for another reason
            self._observer.evicted()
        await self.free(version)

    def _check_size(self, version: Version, size: int) -> None:
        """Raises NoRoom where there is not enough beside the models that are not evicted."""
        most = self._capacity.memory
        left = most - sum(each.memory for each in self._loaded if each.is_resident)
        if most and size > left:
            raise NoRoom(version.name, size, left)

    def _exceeds(self, size: int) -> bool:
        return bool(self._capacity.memory) and self.memory + size > self._capacity.memory and bool(self._guests())

    def _guests(self) -> list[Version]:
        return [each for each in self._loaded if not each.is_resident]

    def _first_to_go(self) -> Version:
        """The least recently used: of those without a request, where there are any."""
        guests = self._guests()
        return min([each for each in guests if each.stay and not each.stay.users] or guests, key=_asked)


def _asked(version: Version) -> int:
    return version.asked
