"""An engine in processes of its own: what it breaks there breaks nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
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
from runtime.observer import ReportObserver, RunnerObserver
from runtime.processes.child import Child, ChildGone
from runtime.processes.children import Children
from runtime.processes.frames import Message
from runtime.processes.parts import check_not_begun
from runtime.processes.recipe import Recipe
from runtime.processes.restarts import Restarts
from runtime.processes.spares import Spares
from runtime.processes.suspects import MOST_DEATHS, Suspects

log = logging.getLogger("snapserve")

_PATIENCE_S = 2.0  # longest wait for the next start of a child before a batch is refused


@dataclass(frozen=True)
class ProcessLimits:
    """How many processes an engine has, and what each may take.

    Attributes:
        processes: batches that run at the same time.
        loaded_spares: further processes that have loaded the engine and wait to take another's place.
        memory_mb: most memory of a process, in MB of 2^20 bytes; 0: no limit.
        load_s: longest time to load the engine in a process, which is killed then.
    """

    processes: int = 1
    loaded_spares: int = 1
    memory_mb: int = 0
    load_s: float = 600.0


class ProcessRunner(Generic[Item, Row]):
    """Keeps children that have loaded an engine, gives each batch to an idle one, and replaces those that end.

    Attributes:
        facts: of the engine; None until `start`.
        busy_since: monotonic time at which the oldest running batch began; None when no batch is running.
        limit_s: longest time for a batch; a process that takes longer is killed.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        limits: ProcessLimits,
        spares: Spares,
        observer: RunnerObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates it on the running event loop; `start` then starts processes.

        Args:
            name: of the model, in log lines.
            recipe: of the engine.
            limits: how many processes, and what each may take.
            spares: where the processes are forked.
            observer: told about processes that end.
            clock: tells the time in seconds.
        """
        self.facts: EngineFacts | None = None
        self.busy_since: float | None = None
        self.limit_s = math.inf
        self._name = name
        self._recipe = recipe
        self._limits = limits
        self._observer = observer
        self._now = clock
        self._suspects = Suspects(clock)
        self._children = Children(name, recipe, limits.memory_mb, limits.load_s, spares, observer)
        self._idle: deque[Child] = deque()
        self._waiting: deque[asyncio.Future[Child]] = deque()
        self._begun: dict[Child, float] = {}
        self._places: dict[int, asyncio.Task[None]] = {}
        self._serving: dict[int, Child] = {}  # by place
        self._retiring: set[Child] = set()
        self._resting: dict[int, float] = {}  # places that wait to start a child -> until when
        self._is_down = False  # from the first refusal until a child is ready
        self._scaling = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that run."""
        return self._children.pids

    @property
    def pids_by_place(self) -> list[int]:
        """Process id of the child in each place; -1 where none runs now."""
        return [self._serving[place].pid if place in self._serving else -1 for place in sorted(self._places)]

    @property
    def processes(self) -> int:
        """Processes of the engine, those that are loading it too."""
        return len(self._children)

    async def start(self) -> None:
        """Starts the processes and loads the engine in each; the loaded spares come later. Raises ModelError."""
        self._children.open()
        try:
            first, facts = await self._children.load()  # alone: one that does not load says so once
            children = [first, *await self._children.load_several(self._limits.processes - 1)]
        except BaseException:  # a cancellation, too
            await self.close()
            raise
        self.facts = _facts(facts, self._recipe)
        for place, child in itertools.zip_longest(range(self.places), children):
            self._have(place, child)

    async def run(self, batch: Sequence[Item]) -> Sequence[Row]:
        """Runs a batch: one row per item, in the same order.

        Raises:
            ModelRaised, EngineRaised: the engine raised.
            EngineDied, EngineTimeout: its process ended, or was killed; the next call gets another.
            SuspectInBatch: an item may have ended a process and is to run alone.
            EngineUnavailable: the engine cannot be started now.
            ResponseBegun: a part of an item's response was sent.
        """
        is_suspect = self._suspects.check(batch)
        while True:
            check_not_begun(batch)
            child = await self._take()
            self._begin(child)
            try:
                rows = await child.run(batch, self.limit_s)
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
                self._suspects.clear(batch)
            if child.report is not None and isinstance(self._observer, ReportObserver):
                self._observer.reported(child.report)
            return rows

    def _is_tried_again(self, batch: Sequence[Item], child: Child, fault: EngineFault) -> bool:
        """Notes which items may be at fault.

        A batch has a second try where the spare process was lost, a single item also where another process killed
        its process.
        """
        log.error("engine %s: %s; batch of %d", self._name, fault, len(batch))
        deaths = self._suspects.add(batch, fault)
        return deaths < MOST_DEATHS and (child.was_orphaned or (len(batch) == 1 and child.killed_by_others))

    @property
    def places(self) -> int:
        """Processes that it is to have."""
        return self._limits.processes + self._limits.loaded_spares

    async def scale(self, processes: int) -> None:
        """Keeps so many processes beside the spare ones; those that are too many end after their batch.

        A failure or a cancellation leaves it as it was.

        Raises:
            EngineError: a further one does not load.
        """
        async with self._scaling:
            before, limits = self.places, dataclasses.replace(self._limits, processes=processes)
            after = limits.processes + limits.loaded_spares
            loaded = await self._children.load_several(after - before)
            self._limits = limits
            for place in range(before, after):
                self._have(place, loaded.pop())
            if given_up := [self._give_up(place) for place in range(after, before)]:
                await asyncio.wait(given_up)

    def _have(self, place: int, child: Child | None) -> None:
        if child is not None:
            self._offer(place, child)
        self._places[place] = asyncio.get_running_loop().create_task(self._keep(place, child))

    def _give_up(self, place: int) -> asyncio.Task[None]:
        """Lets the child in a place end, and its place with it."""
        keeping, child = self._places.pop(place), self._serving.pop(place, None)
        keeping.cancel()
        if child is not None:
            self._retire(child)
        return keeping

    def unavailable(self) -> EngineUnavailable | None:
        """The error of inputs since no process runs and the next start was far, until one is ready."""
        if not self._is_down:
            return None
        return EngineUnavailable(max(0.0, min(self._resting.values(), default=0.0) - self._now()))

    async def close(self) -> None:
        """Ends every process, after the batch that is running. It goes on when cancelled."""
        if self._closing is None:
            self._children.stop()
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._refuse_waiting()
        for keeping in self._places.values():
            keeping.cancel()
        await asyncio.gather(*self._places.values(), return_exceptions=True)
        await self._children.close()

    async def _keep(self, place: int, child: Child | None) -> None:
        """Has a child in this place again and again, until the end."""
        restarts = Restarts()
        for attempt in itertools.count():
            began = self._now()
            if child is None and (child := await self._replacement()) is not None:
                self._offer(place, child)
                took_s = self._now() - began
                if attempt:
                    log.info(
                        "engine %s: process %d is ready, %.1f s after its start", self._name, child.pid, took_s
                    )
            answered = child is not None and await self._served(place, child)
            ready_s = None if child is None else math.inf if answered else self._now() - began
            restarts, child = restarts.after(ready_s), None
            await self._rest(place, restarts.delay_s)

    async def _rest(self, place: int, seconds: float) -> None:
        self._resting[place] = self._now() + seconds
        try:
            if self._refuse_waiting():
                self._is_down = True
            await asyncio.sleep(seconds)
        finally:
            del self._resting[place]

    def _refuse_waiting(self) -> bool:
        """Tells the batches that wait for a child that none will come soon, where that is so."""
        error = self._refusal()
        if error is None:
            return False
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(error)
        self._waiting.clear()
        return True

    async def _replacement(self) -> Child | None:
        try:
            child, _ = await self._children.load()
            return child
        except EngineError as error:
            log.error("engine %s does not start again: %s", self._name, error)
        except Exception:  # its place must not be lost
            log.exception("engine %s does not start again", self._name)
        return None

    def _offer(self, place: int, child: Child) -> None:
        """Lets batches have a child, until it ends or loses its place."""
        self._is_down = False
        self._serving[place] = child
        self._give_back(child)

    async def _served(self, place: int, child: Child) -> bool:
        """Waits for the end of a child. Returns whether it worked: its end does not speak against the next one."""
        await child.ended.wait()
        del self._serving[place]
        self._children.forget(child, child.reason)
        if child in self._idle:
            self._idle.remove(child)
        log.warning("engine %s: process %d ended with %s", self._name, child.pid, child.how)
        return child.answered > 0 or child.was_killed or child.was_orphaned

    def _retire(self, child: Child) -> None:
        """Lets a child end that has lost its place, after its batch."""
        self._retiring.add(child)
        if child in self._idle:
            self._idle.remove(child)
            self._end_retired(child)

    def _end_retired(self, child: Child) -> None:
        self._retiring.discard(child)
        self._children.dismiss(child)

    async def _take(self) -> Child:
        """A child that is idle. Raises EngineUnavailable where none is and none is about to be."""
        while self._idle:
            if (child := self._idle.popleft()).is_usable:
                return child
        if error := self._refusal():
            raise error
        waiting: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._give_back(waiting.result())  # it came at the same moment
            raise

    def _refusal(self) -> EngineUnavailable | None:
        """An error where every place waits, and the first to start a child does so only after some time."""
        if self._closing is not None:
            return EngineUnavailable(1.0)
        if len(self._resting) < len(self._places):
            return None
        rest_s = min(self._resting.values()) - self._now()
        return EngineUnavailable(rest_s) if rest_s > _PATIENCE_S else None

    def _give_back(self, child: Child) -> None:
        """Gives an idle child to the batch that waits longest; the one that was used last is used next."""
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
        if child in self._retiring:
            self._end_retired(child)
        elif child.is_usable:
            self._give_back(child)


def _facts(facts: Message | None, recipe: Recipe) -> EngineFacts:
    if facts is None:
        return EngineFacts(EngineSpec("handler", recipe.target, ""))
    return EngineFacts(spec_from_json(EngineSpec, facts["spec"], recipe.target), tuple(facts["notices"]))
