"""The children of one engine: forked, loaded, and ended."""

from __future__ import annotations

import asyncio
import contextlib

from models.errors import EngineError
from runtime.observer import RunnerObserver
from runtime.processes.child import Child
from runtime.processes.frames import Message
from runtime.processes.recipe import Recipe
from runtime.processes.spare import Spare, SpareDied
from runtime.processes.spares import Spares

_LEAVE_S = 5.0  # time for a child to free its engine


class Children:
    """Forks children, has each load the engine, and counts them until they are gone.

    Attributes:
        spare: process from which they are forked; None until `open`.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        memory_mb: int,
        load_s: float,
        spares: Spares,
        observer: RunnerObserver | None = None,
    ) -> None:
        """Creates it on the running event loop.

        Args:
            name: of the model, in log lines.
            recipe: of the engine.
            memory_mb: most memory of a process, in MB of 2^20 bytes; 0: no limit.
            load_s: longest time to load the engine in a process, which is killed then.
            spares: where the processes are forked.
            observer: told about processes that end.
        """
        self.spare: Spare | None = None
        self._name = name
        self._recipe = recipe
        self._memory_mb = memory_mb
        self._load_s = load_s
        self._spares = spares
        self._observer = observer
        self._known: set[Child] = set()
        self._ending: set[asyncio.Task[None]] = set()  # one for each child that was dismissed
        self._is_stopped = False

    def __len__(self) -> int:
        """Processes, those that are loading too."""
        return len(self._known)

    @property
    def pids(self) -> list[int]:
        """Process ids of those that run."""
        return [child.pid for child in self._known if child.pid and not child.ended.is_set()]

    def open(self) -> None:
        """Takes the spare process, which `close` gives back."""
        self.spare = self._spares.take(self._recipe.preload)

    async def load(self) -> tuple[Child, Message | None]:
        """A new child that has loaded the engine, and the engine's facts. Raises EngineError."""
        child = await self._forked()
        self._known.add(child)
        try:
            self._check_open()
            facts = await child.load(self._recipe, self._memory_mb, self._load_s)
            self._check_open()
        except BaseException as error:
            child.kill()
            self.dismiss(child)
            if isinstance(error, EngineError):
                await child.ended.wait()
                self.forget(child, "load")
            raise
        return child, facts

    async def load_several(self, count: int) -> list[Child]:
        """Loads so many at once. Raises EngineError: one does not load; the others end."""
        loading = [asyncio.ensure_future(self.load()) for _ in range(count)]
        try:
            children = [child for child, _ in await asyncio.gather(*loading)]
            self._check_open()
        except BaseException:  # a cancellation, too
            for each in loading:
                each.cancel()
                each.add_done_callback(self._dismiss_loaded)
            if loading:
                await asyncio.wait(loading)
            raise
        return children

    def dismiss(self, child: Child) -> None:
        """Ends a child after its batch; it counts until it is gone."""
        child.leave()
        ending = asyncio.ensure_future(self._gone(child))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def forget(self, child: Child, reason: str) -> None:
        """Notes that a child has ended, for one of the `REASONS`."""
        self._known.discard(child)
        if self._observer is not None:
            self._observer.process_ended(reason)

    def stop(self) -> None:
        """Lets no further child load: `load` raises EngineError."""
        self._is_stopped = True

    async def close(self) -> None:
        """Ends all, and gives the spare process back."""
        for child in self._known:
            self.dismiss(child)
        while self._ending:
            await asyncio.wait(self._ending)
        if self.spare is not None:
            self._spares.give_back(self._recipe.preload)

    async def _forked(self) -> Child:
        """Raises EngineError."""
        assert self.spare is not None
        try:
            return await self.spare.fork(self._name)
        except (SpareDied, OSError) as error:  # there is no descriptor left, or no memory
            raise EngineError(f"{self._name}: {error}") from None

    def _check_open(self) -> None:
        if self._is_stopped:
            raise EngineError(f"{self._name}: it is not needed any more")

    def _dismiss_loaded(self, loading: asyncio.Task[tuple[Child, Message | None]]) -> None:
        if not loading.cancelled() and loading.exception() is None:
            self.dismiss(loading.result()[0])

    async def _gone(self, child: Child) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await child.ended.wait()
        child.kill()
        await child.ended.wait()
        self._known.discard(child)
