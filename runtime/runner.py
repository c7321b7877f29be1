"""Hosts an engine and calls it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, runtime_checkable

from models.engines.base import EngineOptions
from models.machine.priority import give_way
from runtime.errors import EngineUnavailable
from runtime.model import Engine, EngineFacts, Item, ItemIn, Model, Row, RowOut


class Runner(Protocol[ItemIn, RowOut]):
    """One batch at a time.

    Attributes:
        facts: of the engine; None until `start`.
        busy_since: monotonic time at which the running batch began; None when no batch is running.
        limit_s: longest time for a batch. A thread does not obey it; its worker is to end.
    """

    facts: EngineFacts | None
    busy_since: float | None
    limit_s: float

    @property
    def processes(self) -> int:
        """Processes of the engine beside this one."""
        ...

    async def start(self) -> None:
        """Loads the engine and warms it up. Raises ModelError."""
        ...

    async def run(self, batch: Sequence[ItemIn]) -> Sequence[RowOut]:
        """Runs a batch: one row per item, in the same order. Raises what the engine raises."""
        ...

    def unavailable(self) -> EngineUnavailable | None:
        """The error of an input that came now, where the engine has ended and is not started again at once."""
        ...

    async def close(self) -> None:
        """Closes the engine after the batch that is running."""
        ...


@runtime_checkable
class ScalableRunner(Protocol):
    """A runner that takes several batches at a time."""

    @property
    def pids(self) -> list[int]:
        """Process ids of its children that run."""
        ...

    @property
    def pids_by_place(self) -> list[int]:
        """Process id of the child in each place; -1 where none runs now."""
        ...

    @property
    def places(self) -> int:
        """Processes that it is to have."""
        ...

    async def scale(self, processes: int) -> None:
        """Keeps so many processes. Raises EngineError."""
        ...


class ThreadRunner(Generic[Item, Row]):
    """An engine on a thread of this process."""

    def __init__(
        self,
        model: Model[Item, Row],
        options: EngineOptions,
        clock: Callable[[], float] = time.monotonic,
        begin: Callable[[], None] = give_way,
    ) -> None:
        """Starts the thread; `start` then loads the engine on it.

        Args:
            model: whose engine it is.
            options: of the engine.
            clock: tells the time in seconds.
            begin: called first on the thread; a shadow's is `give_way_entirely`.
        """
        self.facts: EngineFacts | None = None
        self._engine: Engine[Item, Row] | None = None
        self.busy_since: float | None = None
        self.limit_s = math.inf
        self._model = model
        self._options = options
        self._now = clock
        self._closed = False
        self._thread = ThreadPoolExecutor(1, f"engine-{model.facts.name}", initializer=begin)

    @property
    def processes(self) -> int:
        """None: the engine is on a thread of this one."""
        return 0

    async def start(self) -> None:
        """Loads the engine and warms it up. Raises ModelError."""
        loop = asyncio.get_running_loop()
        self._engine = await loop.run_in_executor(self._thread, self._model.load, self._options)
        await loop.run_in_executor(self._thread, self._engine.warm_up)
        self.facts = self._engine.facts

    async def run(self, batch: Sequence[Item]) -> Sequence[Row]:
        """Runs a batch: one row per item, in the same order. Raises what the engine raises."""
        assert self._engine is not None
        self.busy_since = self._now()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.infer, batch)
        finally:
            self.busy_since = None

    def unavailable(self) -> None:
        """A thread does not end before its process."""

    async def close(self) -> None:
        """Closes the engine after the batch that is running."""
        if self._closed:
            return
        self._closed = True
        if self._engine is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.close)
        self._thread.shutdown(wait=False)
