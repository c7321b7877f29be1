"""Changes of the models of one process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import ModelError
from runtime.added_model import AddedModel
from runtime.errors import ChangeFailed, InvalidInput, ModelRefused, NotScalable, RuntimeFault
from runtime.inputs import Fields
from runtime.model_set import FIXED_VERSION, ModelSet
from runtime.outputs import Reply
from runtime.phases import PhaseClock
from runtime.processes.restarts import Restarts
from runtime.transition import Key, Scaling, Transition
from runtime.version import AnyModel
from server.controlled import Guard, Store

log = logging.getLogger("snapserve")


@dataclass(frozen=True)
class Waking:
    """An archive gets workers that had none."""

    model: AddedModel


Step = AddedModel | Scaling | Waking


class Control:
    """Gets a store from one set of models to the next: `prepare`, then `commit` or `undo`.

    Clients that name no version see nothing of a change before its commit. One call at a time, on the event loop;
    only `undo` may come during a `prepare`, which it stops.

    Attributes:
        committed: what the store serves.
        guard: watches over new versions.
        has_started: `start` is done.
    """

    def __init__(
        self,
        store: Store,
        open_model: Callable[[str, str, AddedModel | None], AnyModel],
        committed: ModelSet,
        guard: Guard,
        processes: int = 1,
        workers: int = 1,
        revives: bool = False,
    ) -> None:
        """Creates it.

        Args:
            store: created with `committed.first()`.
            open_model: reads and checks the files of a version, on a thread; the last argument is None for one
                of the command line. Raises ModelError, UnknownModel.
            committed: what the store serves, once `start` is done.
            guard: watches over new versions.
            processes: of an engine for which no number was said.
            workers: among which the processes of an archive are divided.
            revives: whether an archive that does not load at the start is without workers, and is tried again.
        """
        self.committed = committed
        self.has_started = False
        self._store = store
        self._open_model = open_model
        self.guard = guard
        self._processes = processes
        self._workers = workers
        self._revives = revives
        self._reviving: set[asyncio.Task[None]] = set()
        self._prepared: tuple[ModelSet, Transition] | None = None
        self._done: list[Step] = []
        self._given_up = False
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Loads the committed set into the store. Its golden sets were passed before.

        Raises:
            ModelError: a model does not load.
        """
        models = self.committed
        rest = [(key, models.find(*key)) for key in models if key not in models.first()]
        try:
            for idle in (each for each in models.added if each.is_idle):
                if idle.key in models.first():  # the store was created with it
                    await self._store.rest(*idle.key)
                else:
                    self._store.register_idle(*idle.key)
                self._store.expect(*idle.key, idle.is_starting)
            for key, added in rest:
                if added and added.on_use:
                    self._store.register(*key, await self._open(key, added))
            await self._store.load()
            for key, added in rest:
                if not (added and (added.on_use or added.is_idle)):
                    await self._load(key, added)
            for name, processes in models.processes.items():
                with contextlib.suppress(NotScalable):  # the server has other options since
                    await self._store.scale(name, FIXED_VERSION, processes)
        except RuntimeFault as error:
            raise ModelError(f"a model that was added while the server ran: {error}") from None
        for name in dict.fromkeys(name for name, _ in models):
            self._store.set_default(name, models.default_of(name))
        self.guard.begin()
        for name, shadow in models.shadows.items():
            self.guard.shadow(name, shadow)
        self.has_started = True

    async def _load(self, key: Key, added: AddedModel | None) -> None:
        try:
            await self._store.add(*key, await self._open(key, added))
        except (ModelError, RuntimeFault) as error:
            if not (added and added.archive and self._revives):
                raise
            log.error("%s %s has no workers, because it does not load: %s", *key, error)
            self._store.register_idle(*key)
            reviving = asyncio.ensure_future(self._revive(key))
            self._reviving.add(reviving)
            reviving.add_done_callback(self._reviving.discard)

    async def _revive(self, key: Key) -> None:
        """Loads an archive that did not load, again and again, until it does, or is not wanted any more."""
        restarts = Restarts()
        while True:
            restarts = restarts.after(None)
            await asyncio.sleep(restarts.delay_s)
            async with self._turn:
                wanted = next((each for each in self.committed.added if each.key == key), None)
                if wanted is None or wanted.is_idle or self._store.is_awake(*key):
                    return
                try:
                    await self._store.load_idle(*key, await self._open(key, wanted))
                except Exception as error:
                    log.error("%s %s does not load: %s", *key, error)
                    continue
                self._store.wake(*key)
                self._renew([wanted])
                log.info("%s %s is loaded", *key)
                return

    def status(self) -> list[dict[str, Any]]:
        """What is known of every version, for JSON; of a default one with how its shadow compares."""
        return [
            {"name": each.name, **each.to_json(), **(self.guard.report(each.name) if each.is_default else {})}
            for each in self._store.status()
        ]

    async def describe(self, name: str, version: str, headers: Mapping[str, str]) -> Any:
        """The description that the handler of an archive gives, as JSON; None where it gives none.

        Raises:
            UnknownModel, NoWorkers: it cannot be asked.
            BatchingError: it fails.
        """
        asked = Fields({}, headers, "describe")
        await self._store.until_workers(name, version, None)
        async with self._store.use(name, version, None) as deployment:
            try:
                reply = await deployment.infer(asked, PhaseClock(time.monotonic))
            except InvalidInput:  # it has no handler
                return None
        return json.loads(reply.body) if isinstance(reply, Reply) and reply.body else None

    async def prepare(self, models: ModelSet) -> None:
        """Loads what is new in a set; when it fails, everything is as before.

        Raises:
            ModelRefused: a model does not load, fails its golden set, or finds no memory.
            UnknownModel: there is nothing at its path.
            ChangeFailed: it was undone meanwhile.
        """
        async with self._turn:
            assert self._prepared is None
            transition = Transition.between(self.committed, models)
            self._given_up = False
            try:
                steps: Sequence[Step] = (*transition.load, *map(Waking, transition.wake), *transition.scale)
                for step in steps:
                    await self._do(step)
            except BaseException as error:
                await self._take_back()
                raise _reason(error) from error
            self._prepared = models, transition

    async def commit(self) -> None:
        """Serves the prepared set, at once; returns when the versions that are gone are freed."""
        async with self._turn:
            assert self._prepared is not None
            models, transition = self._prepared
            for key in transition.switch:
                self._store.set_default(*key)
                self.guard.watch(*key)
            for model in transition.wake:
                self._store.wake(*model.key)
            for model in transition.expect:
                self._store.expect(*model.key, model.is_starting)
            for name, shadow in transition.shadow:
                self.guard.shadow(name, shadow)
            self.committed, self._prepared = models, None
            self._done.clear()
            resting = (self._store.rest(*model.key) for model in transition.rest)
            await asyncio.gather(*resting, *(self._store.remove(*key) for key in transition.remove))
            self._renew((*transition.wake, *transition.rest))

    def _renew(self, changed: Sequence[AddedModel]) -> None:
        """Has versions watched that came or went without a change of defaults."""
        for name in dict.fromkeys(model.name for model in changed):
            self.guard.renew(name)
            if shadow := self.committed.shadows.get(name):
                self.guard.shadow(name, shadow)

    async def undo(self) -> None:
        """Takes back what was prepared; of a `prepare` that is under way after the step that it is at."""
        self._given_up = True
        async with self._turn:
            self._prepared = None
            await self._take_back()

    async def _do(self, step: Step) -> None:
        if self._given_up:
            raise ChangeFailed("The change was undone while it was prepared.")
        match step:
            case Scaling():
                await self._scale(step, step.after)
            case Waking(model):
                await self._store.load_idle(*model.key, await self._open(model.key, model))
            case AddedModel():
                await self._add(step)
        self._done.append(step)

    async def _add(self, added: AddedModel) -> None:
        if added.is_idle:
            self._store.register_idle(*added.key)
            return
        model = await self._open(added.key, added)
        if added.on_use:
            self._store.register(*added.key, model)
        else:
            await self._store.add(*added.key, model, lambda loaded: self.guard.judge(loaded, added.golden))

    async def _scale(self, step: Scaling, processes: int) -> None:
        """Raises NotScalable; an archive on a thread has the number and no processes."""
        each = math.ceil(processes / self._workers) if step.is_of_archive else processes
        with contextlib.suppress(*[NotScalable] if step.is_of_archive else []):
            await self._store.scale(step.name, step.version, each or self._processes)

    async def _open(self, key: Key, added: AddedModel | None) -> AnyModel:
        return await asyncio.to_thread(self._open_model, *key, added)

    async def _take_back(self) -> None:
        """The last first. What does not go back is logged: no client has seen it."""
        while self._done:
            step = self._done.pop()
            try:
                await self._take_one_back(step)
            except Exception:
                log.exception("a part of a change of models was not undone: %s", step)

    async def _take_one_back(self, step: Step) -> None:
        match step:
            case Scaling():
                await self._scale(step, step.before)
            case Waking(model):
                await self._store.rest(*model.key)
            case AddedModel():
                await self._store.remove(*step.key)


def _reason(error: BaseException) -> BaseException:
    """The answer to a change."""
    if isinstance(error, ModelError):
        return ModelRefused(str(error))
    if isinstance(error, RuntimeFault | asyncio.CancelledError):
        return error
    return ModelRefused(f"{type(error).__name__}: {error}")
