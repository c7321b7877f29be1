"""Several workers behind one port."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from runtime.processes.restarts import Restarts
from runtime.sources import Bundles
from server.config import Config
from server.default_model import reason
from server.operations.banner import banner
from server.operations.lifecycle import (
    LAST_CALL_S,
    ExitCode,
    drained_line,
    ignore_newcomers,
    leave,
    say,
    shutdown_delay,
    stop_on_signals,
    stopping_line,
)
from server.operations.metrics import SupervisorMetrics
from server.operations.readiness import tell_ready
from server.operations.rpc_port import rpc_lines
from server.operations.shared_metrics import SUPERVISOR, SharedMetrics, make_metrics_folder
from server.workers.changes import changes_of
from server.workers.dispatcher import Dispatcher
from server.workers.managed_ports import ManagedPorts
from server.workers.messages import (
    HEARTBEAT_S,
    SPARE,
    Closed,
    Committed,
    Draining,
    Failed,
    Heartbeat,
    Leave,
    Leaving,
    Prepared,
    Ready,
    ReadyWorkers,
    Refused,
    Report,
    Shown,
    Stuck,
    Undone,
    Unhealthy,
)
from server.workers.rollback import roll_back
from server.workers.sizing import share_of
from server.workers.spare import Spare
from server.workers.worker_process import WorkerProcess

if TYPE_CHECKING:
    from server.management.listener import Listener

log = logging.getLogger("snapserve")

MOST_MISSED_HEARTBEATS = 80  # counted, not seconds: a suspended machine counts as one
_GRACE_S = 5.0  # beyond the time to drain, before a worker is killed


async def supervise(
    config: Config,
    bundles: Bundles,
    listening: Sequence[socket.socket],
    managing: ManagedPorts | None = None,
) -> NoReturn:
    """Runs a supervisor until the service is told to stop, then ends the process.

    Raises:
        ModelError: the journal of models is damaged, or another server has it.
        ConfigError: the token or the model store cannot be read.
    """
    await Supervisor(config, bundles, listening, managing).run()


class Supervisor:
    """Starts the workers, starts anew those that end, and drains all."""

    def __init__(
        self,
        config: Config,
        bundles: Bundles,
        listening: Sequence[socket.socket],
        managing: ManagedPorts | None = None,
    ) -> None:
        """Creates it on the running event loop.

        Args:
            config: of the whole service, with a number of workers.
            bundles: of the command line, verified.
            listening: where clients connect; first the service's own port.
            managing: where models are managed; None: nowhere.

        Raises:
            ModelError, ConfigError: see `supervise`.
        """
        self._config = config
        self._bundles = bundles
        self._listening = listening
        self._managing = managing or ManagedPorts()
        self._management_lines: list[str] = []
        self._workers: dict[int, WorkerProcess] = {}
        self._began = time.monotonic()
        self._changes = changes_of(config, tuple(bundles), self._workers.values)
        self._folder = make_metrics_folder(config.server.workers)
        self._shared = SharedMetrics(self._folder.path, SUPERVISOR) if self._folder else None
        self._metrics = SupervisorMetrics(self._shared)
        self._lifeline, self._held = os.pipe()
        self._spare = Spare(partial(self._spawn, SPARE))
        self._dispatcher = Dispatcher(listening, self._workers.values)
        self._was_ready = False
        self._told_ready = 0
        self._start_s = 0.0  # how long the last start of a worker took
        self._leaving = False
        self._stopping = False
        self._rolling_back: set[asyncio.Task[None]] = set()

    async def run(self) -> NoReturn:
        """Serves until SIGTERM, SIGINT or SIGHUP, then drains and ends the process; a second one ends it at once.

        The exit code is one of `ExitCode`.
        """
        stop = stop_on_signals(second=self._kill)
        listeners = await self._manage()
        self._dispatcher.start()
        places = [asyncio.ensure_future(self._keep(number)) for number in range(self._config.server.workers)]
        stopping, watching = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._watch())
        await asyncio.wait((*places, stopping, watching), return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            self._kill()
            await asyncio.gather(*places, watching)  # one of them has failed; it raises
        self._leaving = True
        self._tell_ready()
        if self._ready:
            await shutdown_delay(self._config.server)
        self._changes.end()
        for listener in listeners:
            await listener.close()
        await self._drain()

    async def _manage(self) -> list[Listener]:
        """Begins to listen for changes of the models."""
        if not self._managing.is_needed:
            return []
        from server.workers.managing import listeners_of  # aiohttp, which nothing else here needs

        listeners = listeners_of(self._config, self._changes, self._managing, self._shared is not None)
        for listener in listeners:
            await listener.start()
        self._management_lines = [listener.line for listener in listeners if listener.line]
        return listeners

    async def _keep(self, number: int) -> None:
        """Starts the worker of one place again and again, until the end."""
        restarts, config, delay_s, follows_outdated = Restarts(), share_of(self._config), 0.0, False
        for attempt in itertools.count():
            if self._stopping:
                return
            worker = await self._spare.take() or await self._spawn()
            worker.begin(number, config, self._shared, delay_s, self._start_s, self._changes.committed)
            worker.follows_outdated = follows_outdated
            self._workers[number] = worker
            if delay_s:
                self._spare.want()  # what ended the last one soon may come again
            code = await worker.wait()
            if self._shared:
                self._shared.forget_gauges(str(number))
            self._tell_ready()
            if self._stopping:
                return
            follows_outdated = worker.outdated and worker.ready_at is None
            if worker.outdated:
                log.info(
                    "worker %d (process %d) has ended and is started with other models", number, worker.process.pid
                )
                delay_s = 0.0
                continue
            if code:
                self._metrics.ended.inc()
            ready_s = None if worker.ready_at is None else time.monotonic() - worker.ready_at
            restarts = restarts.after(ready_s)
            self._give_up_if_hopeless(number, restarts, code)
            log.warning(
                "worker %d (process %d, start %d) ended with %s; starting it again in %.1f s",
                *(number, worker.process.pid, attempt + 1, _how(code), restarts.delay_s),
            )
            delay_s = restarts.delay_s
            if ready_s is None:  # the next may not get far enough to wait by itself
                await asyncio.sleep(delay_s)
                delay_s = 0.0

    async def _spawn(self, *words: str) -> WorkerProcess:
        worker = WorkerProcess(self._heard)
        await worker.spawn(self._lifeline, *words)
        return worker

    def _give_up_if_hopeless(self, number: int, restarts: Restarts, code: int) -> None:
        if restarts.hopeless and not (self._was_ready and self._ready):
            self._end(
                ExitCode.CANNOT_START, f"worker {number} cannot start: it ended with {_how(code)} again and again"
            )

    async def _watch(self) -> NoReturn:
        """Kills workers whose event loop stands still; others take their places."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self._metrics.count_dropped_lines()
            for worker in self._ready:
                worker.missed_heartbeats += 1
                if worker.missed_heartbeats > MOST_MISSED_HEARTBEATS:
                    log.error("worker %d stands still and is killed", worker.number)
                    worker.kill()
            self._tell_changes()
            self._spare.look()

    def _heard(self, worker: WorkerProcess, report: Report | None) -> None:
        self._changes.heard(worker, report)
        match report:
            case Heartbeat(overdue, unavailable):
                if overdue and not (worker.leaving or self._stopping):
                    self._spare.want()
                if overdue or unavailable or self._told_ready < len(self._workers):
                    self._tell_changes()
                return
            case Closed() | Prepared() | Committed() | Undone() | Refused() | Shown():
                return
            case Unhealthy():
                self._roll_back(report)
                return
            case Failed(reason) if not self._was_ready:
                self._end(ExitCode.WRONG_USE, reason)
            case Failed(reason):
                log.error("worker %d: %s", worker.number, reason)
            case Leaving():
                worker.leave()
            case Stuck(model):
                log.error("worker %d: the engine of %s does not come back from a batch", worker.number, model)
                worker.leave()
            case Draining():
                self._show_stopping()
        self._tell_ready()
        if isinstance(report, Ready):
            self._start_s = worker.start_s
            self._show_ready(worker, report.models)

    def _roll_back(self, report: Unhealthy) -> None:
        rolling_back = asyncio.ensure_future(roll_back(self._changes, report, self._metrics.rollbacks.inc))
        self._rolling_back.add(rolling_back)
        rolling_back.add_done_callback(self._rolling_back.discard)

    @property
    def _ready(self) -> list[WorkerProcess]:
        return [each for each in self._workers.values() if each.ready_at is not None and not each.leaving]

    @property
    def _count_ready(self) -> int:
        return sum(not each.doubtful for each in self._ready)

    def _tell_changes(self) -> None:
        if self._count_ready != self._told_ready:
            self._tell_ready()

    def _tell_ready(self) -> None:
        """Lets every worker answer /readyz for all."""
        ready = self._told_ready = self._count_ready
        self._metrics.ready.set(ready)
        for worker in self._workers.values():
            worker.channel.send(ReadyWorkers(ready))
            if self._leaving:
                worker.channel.send(Leave())

    def _show_ready(self, worker: WorkerProcess, models: list[str]) -> None:
        """The banner when all are ready for the first time; later a line for each that took another's place."""
        now, given = time.monotonic(), self._config.server
        if self._was_ready:
            log.info("worker %d is ready, %.1f s after its start", worker.number, now - worker.started_at)
        elif len(self._ready) == given.workers:
            self._was_ready = True
            self._changes.begin()
            address = self._listening[0].getsockname()
            facts = given.workers, given.root_path, reason(self._config.models, self._bundles), given.apis
            seconds, torchserve = now - self._began, self._config.torchserve
            models = [*models, *rpc_lines(self._config)]
            say(banner(models, self._bundles, address, seconds, *facts, torchserve))
            for line in self._management_lines:
                say(line)
            tell_ready()

    def _show_stopping(self) -> None:
        ready = [worker for worker in self._workers.values() if worker.ready_at is not None]
        if self._stopping and all(worker.in_flight is not None for worker in ready):
            say(stopping_line(sum(worker.in_flight or 0 for worker in ready)))

    async def _drain(self) -> NoReturn:
        """Gives out what the kernel has accepted, then lets every worker answer what it has."""
        self._stopping, began = True, time.monotonic()
        self._spare.kill()
        for listening in self._listening:
            ignore_newcomers(listening)
        await asyncio.sleep(LAST_CALL_S)
        running = [worker for worker in self._workers.values() if worker.process.returncode is None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.server.drain_timeout_s + _GRACE_S):
                await self._dispatcher.close()
                for worker in running:
                    worker.leave()
                await asyncio.gather(*(worker.wait() for worker in running))
        drains = [worker.drained for worker in running if worker.drained]
        answered, left = sum(each.answered for each in drains), sum(each.unanswered for each in drains)
        say(drained_line(answered, left, time.monotonic() - began))
        self._kill()
        failed = left or any(worker.process.returncode for worker in running)
        leave(ExitCode.UNANSWERED if failed else ExitCode.OK)

    def _end(self, code: ExitCode, reason: str) -> NoReturn:
        """Ends the process, and the workers with it, for a reason that is printed."""
        print(f"snapserve: {reason}", file=sys.stderr)
        self._kill()
        leave(code)

    def _kill(self) -> None:
        self._spare.kill()
        for worker in self._workers.values():
            worker.kill()
        self._managing.remove()
        if self._folder:
            self._folder.remove()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
