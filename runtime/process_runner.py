"""An engine in processes of its own: what it breaks there breaks nothing else."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from models.bundles.spec import EngineSpec, spec_from_json
from models.errors import EngineError
from runtime.errors import EngineFault, EngineUnavailable
from runtime.model import EngineFacts, Item, Row
from runtime.processes.child import Child, ChildGone
from runtime.processes.frames import Message
from runtime.processes.recipe import Recipe
from runtime.processes.restarts import Restarts
from runtime.processes.spare import Spare, SpareDied
from runtime.processes.suspects import MOST_DEATHS, Suspects

log = logging.getLogger("snapserve")

_LOAD_LIMIT_S = 600.0
_LEAVE_S = 5.0  # time for a child to free its engine
_PATIENCE_S = 2.0  # longest wait for the next start of a child before a batch is refused


@dataclass(frozen=True)
class ProcessLimits:
    """How many processes an engine has, and what each may take.

    Attributes:
        processes: batches that run at the same time.
        loaded_spares: further processes that have loaded the engine and wait to take another's place.
        timeout_s: longest time for a batch; a process that takes longer is killed.
        memory_mb: most memory of a process, in MB of 2^20 bytes; 0: no limit.
    """

    processes: int = 1
    loaded_spares: int = 1
    timeout_s: float = 30.0
    memory_mb: int = 0


class ProcessRunner(Generic[Item, Row]):
    """Keeps children that have loaded an engine, gives each batch to an idle one, and replaces those that end.

    Attributes:
        facts: of the engine; None until `start`.
        busy_since: monotonic time at which the oldest running batch began; None when no batch is running.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        limits: ProcessLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates it on the running event loop; `start` then starts processes.

        Args:
            name: of the model, in log lines.
            recipe: of the engine.
            limits: how many processes, and what each may take.
            clock: tells the time in seconds.
        """
        self.facts: EngineFacts | None = None
        self.busy_since: float | None = None
        self._name = name
        self._recipe = recipe
        self._limits = limits or ProcessLimits()
        self._now = clock
        self._spare = Spare(name, recipe.preload)
        self._suspects = Suspects(clock)
        self._idle: deque[Child] = deque()
        self._children: set[Child] = set()
        self._waiting: deque[asyncio.Future[Child]] = deque()
        self._begun: dict[Child, float] = {}
        self._places: set[asyncio.Task[None]] = set()
        self._resting: dict[int, float] = {}  # places that wait to start a child -> until when
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Process ids of the spare and of the children that run."""
        running = [child.pid for child in self._children if not child.ended.is_set()]
        return [pid for pid in (self._spare.pid, *running) if pid]

    async def start(self) -> None:
        """Starts the processes and loads the engine in each. Raises ModelError."""
        try:
            first, facts = await self._loaded()
        except (EngineError, SpareDied) as error:
            await self.close()
            raise error if isinstance(error, EngineError) else EngineError(f"{self._name}: {error}") from None
        self.facts = _facts(facts, self._recipe)
        for place in range(self._limits.processes + self._limits.loaded_spares):
            keeping = asyncio.get_running_loop().create_task(self._keep(place, None if place else first))
            self._places.add(keeping)

    async def run(self, batch: Sequence[Item]) -> Sequence[Row]:
        """Runs a batch: one row per item, in the same order.

        Raises:
            ModelRaised, EngineRaised: the engine raised.
            EngineDied, EngineTimeout: its process ended, or was killed; the next call gets another.
            SuspectInBatch: an item may have ended a process and is to run alone.
            EngineUnavailable: the engine cannot be started now.
        """
        is_suspect = self._suspects.check(batch)
        while True:
            child = await self._take()
            self._begin(child)
            try:
                rows = await child.run(batch, self._limits.timeout_s)
            except ChildGone:
                continue
            except EngineFault as fault:
                is_suspect = True
                if not self._is_tried_again(batch, child, fault):
                    raise
                continue
            finally:
                self._end(child)
            if is_suspect:
                self._suspects.clear(batch[0])
            return rows

    def _is_tried_again(self, batch: Sequence[Item], child: Child, fault: EngineFault) -> bool:
        """Notes who may be at fault. A single item has a second try where somebody else has killed the process."""
        log.error("engine %s: %s; batch of %d", self._name, fault, len(batch))
        deaths = self._suspects.add(batch, fault)
        return len(batch) == 1 and deaths < MOST_DEATHS and child.killed_by_others

    async def close(self) -> None:
        """Ends every process, after the batch that is running."""
        self._closed = True
        for place in self._places:
            place.cancel()
        await asyncio.gather(*self._places, return_exceptions=True)
        for child in self._children:
            child.leave()
        leaving = [asyncio.ensure_future(child.ended.wait()) for child in self._children]
        if leaving:
            await asyncio.wait(leaving, timeout=_LEAVE_S)
        await self._spare.close()
        await asyncio.gather(*leaving)

    async def _loaded(self) -> tuple[Child, Message | None]:
        child = await self._spare.fork()
        self._children.add(child)
        return child, await child.load(self._recipe, self._limits.memory_mb, _LOAD_LIMIT_S)

    async def _keep(self, place: int, child: Child | None) -> None:
        """Has a child in this place again and again, until the end."""
        restarts = Restarts()
        for attempt in itertools.count():
            began = self._now()
            child = child or await self._replacement()
            if child is not None and attempt:
                took_s = self._now() - began
                log.info("engine %s: process %d is ready, %.1f s after its start", self._name, child.pid, took_s)
            answered = child is not None and await self._serve(child)
            ready_s = None if child is None else math.inf if answered else self._now() - began
            restarts, child = restarts.after(ready_s), None
            await self._rest(place, restarts.delay_s)

    async def _rest(self, place: int, seconds: float) -> None:
        self._resting[place] = self._now() + seconds
        if error := self._unavailable():
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(error)
            self._waiting.clear()
        await asyncio.sleep(seconds)
        del self._resting[place]

    async def _replacement(self) -> Child | None:
        try:
            child, _ = await self._loaded()
            return child
        except (EngineError, SpareDied) as error:
            log.error("engine %s does not start again: %s", self._name, error)
            return None

    async def _serve(self, child: Child) -> bool:
        """Offers a child until it ends. Returns whether it worked: answered a batch, or ran into its limit."""
        self._give_back(child)
        await child.ended.wait()
        self._children.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        log.warning("engine %s: process %d ended with %s", self._name, child.pid, child.how)
        return child.answered > 0 or child.was_killed

    async def _take(self) -> Child:
        """A child that is idle. Raises EngineUnavailable where none is and none is about to be."""
        while self._idle:
            if (child := self._idle.popleft()).is_usable:
                return child
        if error := self._unavailable():
            raise error
        waiting: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return await waiting

    def _unavailable(self) -> EngineUnavailable | None:
        """An error where every place waits, and the first to start a child does so only after some time."""
        if len(self._resting) < len(self._places):
            return None
        rest_s = min(self._resting.values()) - self._now()
        return EngineUnavailable(rest_s) if rest_s > _PATIENCE_S else None

    def _give_back(self, child: Child) -> None:
        """Gives an idle child to whoever waits longest; the one that was used last is used next."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(child)
                return
        self._idle.appendleft(child)

    def _begin(self, child: Child) -> None:
        self._begun[child] = self._now()
        self.busy_since = min(self._begun.values())

    def _end(self, child: Child) -> None:
        del self._begun[child]
        self.busy_since = min(self._begun.values(), default=None)
        if child.is_usable:
            self._give_back(child)


def _facts(facts: Message | None, recipe: Recipe) -> EngineFacts:
    if facts is None:
        return EngineFacts(EngineSpec("handler", recipe.target, ""))
    return EngineFacts(spec_from_json(EngineSpec, facts["spec"], recipe.target), tuple(facts["notices"]))
