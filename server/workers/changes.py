"""Changes of the models of all workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import (
    ChangeFailed,
    ModelRefused,
    NotScalable,
    NoWorkers,
    RuntimeFault,
    TooManyChanges,
    UnknownModel,
)
from runtime.journal import Journal, JournalError, read_journal
from runtime.model_set import ModelSet
from runtime.model_set_json import to_json
from runtime.transition import Transition
from server.config import Config, ModelConfig
from server.torchserve.snapshots import SHUTDOWN, STARTUP, Snapshots
from server.torchserve.startup import models_at_start
from server.workers.messages import (
    Commit,
    Describe,
    Prepare,
    Refused,
    Report,
    Show,
    Undo,
    file_in_memory,
    read_file,
)
from server.workers.round import Asked, Round
from server.workers.worker_process import WorkerProcess

log = logging.getLogger("snapserve")

MOST_WAITING = 16  # changes, with the one that is under way
_NUMBERS = 256
_SHOW_S = 2.0
_UNDO_S = 30.0
_DESCRIBE_S = 60.0
_SILENT = "The handler does not describe itself."
_JOURNAL = "models.json"

STARTING, STOPPING = "The server is starting.", "The server is stopping."


@dataclass(frozen=True)
class ChangeLimits:
    """How long a worker may take, in seconds.

    Attributes:
        prepare_s: to load and check what is new.
        commit_s: to free what is gone, whose users it waits for.
        undo_s: to free what was loaded.
        start_s: to become ready, where a change waits for that.
    """

    prepare_s: float = 300.0
    commit_s: float = 60.0
    undo_s: float = _UNDO_S
    start_s: float = 60.0


class Changes:
    """Gets all workers from one set of models to the next, in two phases; one change at a time.

    Every worker that is ready prepares the new set, then the journal is written, then every worker commits. The
    journal decides: before it the old set is that of all workers, after it the new one. A worker that is not where
    it should be is drained, and another one starts with the committed set, so nothing is asked twice.

    | a worker                 | before the journal is written           | after it                             |
    |--------------------------|-----------------------------------------|--------------------------------------|
    | does not load a model    | all undo; the reason is the answer: 422 |                                      |
    | ends, or is about to     | all undo: 503                           | the next one starts with the new set |
    | takes too long           | all undo: 503                           | is drained                           |
    | takes no orders: full    | all undo: 503                           | is drained                           |
    | cannot undo, or commit   | is drained                              | is drained                           |
    | is starting              | takes no part                           | is drained: it has the old set       |

    A change waits for a worker whose start an earlier one has ended so: else changes that come often would end
    every start.

    Where the journal cannot be written, all undo: 503. When the supervisor ends, so do the workers, and the next
    start reads the journal.

    Attributes:
        committed: what all workers serve, or are to serve.
        refusal: why no change is possible now; "" when one is.
    """

    def __init__(
        self,
        workers: Callable[[], Iterable[WorkerProcess]],
        committed: ModelSet,
        journal: Journal | None = None,
        limits: ChangeLimits | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """Creates it.

        Args:
            workers: all that there are at the moment.
            committed: what they serve.
            journal: where the committed set is kept; None: nowhere.
            limits: how long a worker may take.
            snapshots: where the committed archives are kept; None: nowhere.
        """
        self.committed = committed
        self.refusal = STARTING
        self._workers = workers
        self._journal = journal
        self._snapshots = snapshots
        self._limits = limits or ChangeLimits()
        self._rounds: list[Round] = []
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()  # of a worker, or of the end
        self._waiting = 0
        self._change_number = self._question_number = 0
        self._running: set[asyncio.Task[ModelSet]] = set()

    async def change(self, operation: Callable[[ModelSet], ModelSet], must: bool = False) -> ModelSet:
        """Changes the set of all workers, after the changes that were asked for before. It goes on when cancelled.

        Args:
            operation: committed set -> new set; raises a RuntimeFault for what cannot be.
            must: it waits, however many others do.

        Returns:
            The new set, which is committed.

        Raises:
            TooManyChanges: others wait already.
            ModelRefused: a model does not load, or fails its golden set.
            ChangeFailed: a worker ended or took too long, or the journal cannot be written.
            RuntimeFault: of `operation`.
        """
        if self._waiting >= MOST_WAITING and not must:
            raise TooManyChanges(f"{self._waiting} changes wait already.")
        running = asyncio.ensure_future(self._in_turn(operation))
        self._running.add(running)
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def _ended(self, running: asyncio.Task[ModelSet]) -> None:
        self._running.discard(running)
        if not running.cancelled() and running.exception():  # its client may have left
            log.info("the models were not changed: %s", running.exception())

    async def _in_turn(self, operation: Callable[[ModelSet], ModelSet]) -> ModelSet:
        self._waiting += 1
        try:
            async with self._turn:
                await self._until_started()
                if self.refusal:
                    raise ChangeFailed(self.refusal)
                models = operation(self.committed)
                if models != self.committed:
                    await self._change(models)
                return models
        finally:
            self._waiting -= 1

    async def _until_started(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.start_s):
                while not self.refusal and any(each.is_awaited for each in self._workers()):
                    self._news.clear()
                    await self._news.wait()

    async def _change(self, models: ModelSet) -> None:
        number = self._change_number = (self._change_number + 1) % _NUMBERS
        workers = [each for each in self._workers() if each.ready_at is not None and not each.leaving]
        if not workers and Transition.between(self.committed, models).load:
            raise ChangeFailed("No worker is ready to load the model.")
        try:
            await self._prepare(workers, number, models)
            await self._write(models)
        except Exception:
            await self._undo(workers, number)
            raise
        self.committed = models
        if self.refusal:  # the service stops since: what it leaves has the change
            self.end()
        await self._commit(workers, number)

    async def _prepare(self, workers: Sequence[WorkerProcess], number: int, models: ModelSet) -> None:
        order, limit_s = Prepare(number, to_json(models)), self._limits.prepare_s
        with self._round(Prepare, number) as asked:
            asked.ask(workers, lambda each: each.channel.send(order))
            await asked.wait(limit_s, until_first_failure=True)
        if asked.refused:
            raise _error_of(next(iter(asked.refused.values())))
        if asked.lost:
            raise ChangeFailed(f"Worker {asked.lost[0].number} ended while it loaded the models.")
        if asked.late:
            raise ChangeFailed(f"Worker {asked.late[0].number} took longer than {limit_s:g} s to load the models.")

    async def _write(self, models: ModelSet) -> None:
        try:
            if self._journal:
                await asyncio.to_thread(self._journal.write, models)
        except JournalError as error:
            log.error("a change of models was undone: %s", error)
            raise ChangeFailed("The journal of models cannot be written; the log says why.") from None
        if self._snapshots:
            await asyncio.to_thread(self._snapshots.write, models)

    def begin(self) -> None:
        """Lets changes come: every worker is ready."""
        self.refusal = ""
        if self._snapshots:
            self._snapshots.write(self.committed, STARTUP)

    def end(self) -> None:
        """Lets no change come any more: the service stops."""
        self.refusal = STOPPING
        self._news.set()
        if self._snapshots:
            self._snapshots.write(self.committed, SHUTDOWN)

    async def _undo(self, workers: Sequence[WorkerProcess], number: int) -> None:
        with self._round(Undo, number) as asked:
            asked.ask(workers, lambda each: each.channel.send(Undo(number)))
            await asked.wait(self._limits.undo_s)
        for worker in (*asked.late, *asked.refused):
            self._replace(worker, "did not undo a change of models")

    async def _commit(self, workers: Sequence[WorkerProcess], number: int) -> None:
        with self._round(Commit, number) as asked:
            asked.ask(workers, lambda each: each.channel.send(Commit(number)))
            await asked.wait(self._limits.commit_s)
        for worker in asked.done:
            worker.models = self.committed
        for worker in self._workers():
            if worker.models != self.committed and not worker.leaving:
                self._replace(worker, "does not have the models that were committed")

    def _replace(self, worker: WorkerProcess, why: str) -> None:
        if not worker.leaving:
            log.warning("worker %d %s and is replaced", worker.number, why)
            worker.outdated = True
            worker.leave()

    async def show(self) -> dict[int, list[dict[str, Any]]]:
        """What each worker that answers in time knows of its models, by number of the worker."""
        number = self._question_number = (self._question_number + 1) % _NUMBERS
        files: dict[WorkerProcess, int] = {}
        with contextlib.ExitStack() as stack, self._round(Show, number) as asked:

            def ask(worker: WorkerProcess) -> bool:
                files[worker] = stack.enter_context(file_in_memory())
                return worker.channel.send(Show(number, files[worker]))

            asked.ask([each for each in self._workers() if each.ready_at is not None], ask)
            await asked.wait(_SHOW_S)
            return {worker.number: json.loads(read_file(files[worker])) for worker in asked.done}

    def pids(self) -> dict[int, int]:
        """The process id of each worker, by its number."""
        return {worker.number: worker.process.pid for worker in self._workers()}

    async def describe(self, name: str, version: str, headers: Mapping[str, str]) -> Any:
        """The description that the handler of an archive gives in one worker; None where it gives none.

        Raises:
            NoWorkers: it has none.
            ChangeFailed: no worker answers in time.
        """
        number = self._question_number = (self._question_number + 1) % _NUMBERS
        ready = [each for each in self._workers() if each.ready_at is not None and not each.leaving]
        question = json.dumps({"name": name, "version": version, "headers": dict(headers)}).encode()
        with file_in_memory(question) as file, self._round(Describe, number) as asked:
            asked.ask(ready[:1], lambda each: each.channel.send(Describe(number, file)))
            await asked.wait(_DESCRIBE_S)
            answer = json.loads(read_file(file)) if asked.done else {"error": ""}
        if "error" in answer:
            raise NoWorkers(name, version) if answer["error"] == NoWorkers.__name__ else ChangeFailed(_SILENT)
        return answer["metadata"]

    def heard(self, worker: WorkerProcess, report: Report | None) -> None:
        """Takes a report; None: the worker has closed its end."""
        self._news.set()
        for each in self._rounds:
            each.heard(worker, report)

    @contextlib.contextmanager
    def _round(self, order: Asked, number: int) -> Iterator[Round]:
        asked = Round(order, number)
        self._rounds.append(asked)
        try:
            yield asked
        finally:
            self._rounds.remove(asked)


_ERRORS: dict[str, type[RuntimeFault]] = {
    each.__name__: each for each in (UnknownModel, ModelRefused, NotScalable)
}


def _error_of(report: Refused) -> RuntimeFault:
    return _ERRORS.get(report.kind, ChangeFailed)(report.reason)


def changes_of(config: Config, fixed: tuple[str, ...], workers: Callable[[], Iterable[WorkerProcess]]) -> Changes:
    """The changes of a service, which begins with the set of its journal, if it has one.

    Without management the journal is only read: the folder may be another server's, or read-only.

    Args:
        config: of the service.
        fixed: names of the models of the command line.
        workers: all that there are at the moment.

    Raises:
        ModelError: the journal is damaged, or another server has it; an archive that was named cannot be served.
        ConfigError: a snapshot or an option of TorchServe is wrong.
    """
    file = journal_file(config.models)
    journal = Journal(file) if file and config.management.management_port != "off" else None
    committed = read_journal(file, fixed) if file else ModelSet(fixed)
    limits = ChangeLimits(
        prepare_s=config.management.management_timeout_s,
        commit_s=config.limits.request_timeout_ms / 1000 + _UNDO_S,
    )
    snapshots = Snapshots(config) if config.torchserve.is_on and not config.torchserve.ncs else None
    return Changes(workers, models_at_start(config, committed), journal, limits, snapshots)


def journal_file(config: ModelConfig) -> Path | None:
    """Where the journal of models is: where the options say, else in the model store; None without a store."""
    if config.model_journal is not None:
        return config.model_journal
    return Path(config.model_store, _JOURNAL) if config.model_store else None
