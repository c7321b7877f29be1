"""`python -m server.workers.worker`: one of several processes that serve. The supervisor starts it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any, NoReturn

from models.archives.unpacked import remove_unpacked, unpack_with
from models.errors import ModelError
from models.machine.locked_folder import remove_folder
from models.machine.process import prepare_process
from runtime.errors import ChangeFailed, RuntimeFault
from runtime.model_set_json import from_json
from server.model_options import find_bundles
from server.operations.lifecycle import ExitCode, leave, loop_factory
from server.operations.line_writer import take_over_streams
from server.operations.logs import set_up_logs
from server.operations.rare_line import RareLine
from server.operations.shared_metrics import SharedMetrics
from server.operations.temporary_folder import name_temporary_folder
from server.operations.watchdog import Watchdog
from server.service import Service, loaded_before
from server.workers.messages import (
    HEARTBEAT_S,
    SPARE,
    Adopt,
    Change,
    ChangeReport,
    Closed,
    Commit,
    Committed,
    Describe,
    Drain,
    Drained,
    Draining,
    Failed,
    Heartbeat,
    Leave,
    Leaving,
    Order,
    Prepare,
    Prepared,
    Ready,
    ReadyWorkers,
    Refused,
    Show,
    Shown,
    Stuck,
    Undo,
    Undone,
    Unhealthy,
    WorkerEnd,
    WorkerSettings,
    read_file,
)

log = logging.getLogger("snapserve")

_LONGEST_REASON = 2000  # characters


def main() -> NoReturn:
    """Reads the settings from the standard input, serves, and ends the process."""
    take_over_streams()
    prepare_process()
    if SPARE in sys.argv:
        import torch  # noqa: F401  most of the time of a start
    try:
        settings: WorkerSettings = pickle.load(sys.stdin.buffer)  # from the supervisor, our own program
    except EOFError:
        leave(ExitCode.ORPHANED)
    threading.Thread(target=_end_with_supervisor, args=(settings,), daemon=True).start()
    set_up_logs(settings.config.server.log_level, f"worker {settings.number}")
    name_temporary_folder()
    unpack_with(settings.group)
    channel = WorkerEnd(socket.socket(fileno=settings.channel))
    with asyncio.Runner(loop_factory=loop_factory(settings.config.server.loop)) as runner:
        runner.run(Worker(settings, channel).run())
    leave(ExitCode.OK)


def _end_with_supervisor(settings: WorkerSettings) -> None:
    """Ends this process, whatever it is doing, as soon as the supervisor is no more."""
    while os.read(settings.lifeline, 1):
        pass
    _end_orphaned(settings)


def _end_orphaned(settings: WorkerSettings) -> NoReturn:
    if settings.metrics:
        remove_folder(settings.metrics)
    remove_unpacked()
    os._exit(ExitCode.ORPHANED)


class Worker:
    """Serves the connections that it is given, until it is told to drain."""

    def __init__(self, settings: WorkerSettings, channel: WorkerEnd) -> None:
        self._settings = settings
        self._channel = channel
        self._drain = asyncio.Event()
        self._closed = 0
        self._warn = RareLine(log)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Loads, serves, drains, and ends the process."""
        loop, config = asyncio.get_running_loop(), self._settings.config
        folder = self._settings.metrics
        shared = SharedMetrics(folder, str(self._settings.number)) if folder else None
        try:
            bundles = find_bundles(config.models)
            self._service = Service(config, bundles, shared, self._connection_closed, self._settings.models)
            self._service.control.guard.on_unhealthy = self._report_unhealthy
            self._foretell()
            await self._service.start()
            loop.add_reader(self._channel.socket, self._obey)
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, lambda: self._channel.send(Leaving()))
            await self._delay()
            if not await loaded_before(self._drain, self._service):
                self._leave(ExitCode.OK)
        except ModelError as error:
            self._channel.send(Failed(str(error)))
            self._leave(ExitCode.WRONG_USE)
        self._channel.send(Ready(self._service.describe()))
        context, settings = self._service.context, self._settings
        context.start_s = time.monotonic() - settings.started_at - settings.delay_s
        self._watchdog = Watchdog(context.store)
        self._beat()
        await self._drain.wait()
        await self._end()

    def _foretell(self) -> None:
        """Lets clients know when to come back."""
        settings, context = self._settings, self._service.context
        context.start_s = settings.start_s or context.start_s
        context.store.expected_at = settings.started_at + settings.delay_s + settings.start_s

    async def _delay(self) -> None:
        """Waits in the worker, not in the supervisor: connections are answered meanwhile, with 503."""
        if not self._settings.delay_s:
            return
        asyncio.get_running_loop().run_in_executor(None, importlib.import_module, "torch")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.delay_s):
                await self._drain.wait()

    async def _end(self) -> NoReturn:
        if self._channel.abandoned:  # the supervisor is gone; the lifeline would end it at once, too
            _end_orphaned(self._settings)
        context = self._service.context
        before = context.answered
        self._channel.send(Draining(context.in_flight))
        unanswered = await self._service.drain()
        self._channel.send(Drained(context.answered - before, unanswered))
        if self._watchdog.stuck:
            self._leave(ExitCode.ENGINE_STUCK)
        self._leave(ExitCode.UNANSWERED if unanswered else ExitCode.OK)

    def _leave(self, code: ExitCode) -> NoReturn:
        """Ends the process. A supervisor that ends closes the channel too, at times before the lifeline."""
        if self._channel.abandoned:
            _end_orphaned(self._settings)
        leave(code)

    def _obey(self) -> None:
        for order in self._channel.orders():
            self._obey_one(order)

    def _obey_one(self, order: Order) -> None:
        match order:
            case Adopt(connection) if connection is None:
                self._warn("a connection was refused: no descriptor is left; `ulimit -n` sets how many there are")
                self._connection_closed()
            case Adopt(connection):
                assert connection is not None
                self._begin(self._adopt(connection))
            case ReadyWorkers(count):
                self._service.context.ready_workers = count
            case Leave():
                self._service.context.leaving = True
            case Drain():
                asyncio.get_running_loop().remove_reader(self._channel.socket)
                self._drain.set()
            case Prepare() | Commit() | Undo():
                self._begin(self._change(order))
            case Show(question, answer) if answer is not None:
                self._show(question, answer)
            case Describe(question, file) if file is not None:
                self._begin(self._describe(question, file))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.ensure_future(work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _change(self, order: Change) -> None:
        try:
            report = await self._changed(order)
        except Exception as error:
            if not isinstance(error, RuntimeFault):
                log.exception("a change of models failed")
            reason = str(error)[:_LONGEST_REASON]
            report = Refused(order.change, type(order).__name__, type(error).__name__, reason)
        self._channel.send(report)

    async def _changed(self, order: Change) -> ChangeReport:
        control = self._service.control
        match order:
            case Prepare(number, models):
                if models is None:
                    raise ChangeFailed("No descriptor is left; `ulimit -n` sets how many there are.")
                await control.prepare(from_json(models, control.committed.fixed))
                return Prepared(number)
            case Commit(number):
                await control.commit()
                return Committed(number)
            case Undo(number):
                await control.undo()
                return Undone(number)

    def _show(self, question: int, answer: int) -> None:
        with open(answer, "wb") as file:
            file.write(json.dumps(self._service.control.status()).encode())
        self._channel.send(Shown(question))

    async def _describe(self, question: int, descriptor: int) -> None:
        with os.fdopen(descriptor, "r+b") as file:
            asked = json.loads(read_file(descriptor))
            try:
                answer = {"metadata": await self._service.control.describe(**asked)}
            except Exception as error:
                log.warning("%s does not describe itself: %s", asked["name"], error)
                answer = {"error": type(error).__name__}
            file.seek(0)  # where the supervisor stands, too
            file.truncate()
            file.write(json.dumps(answer).encode())
        self._channel.send(Shown(question))

    def _report_unhealthy(self, name: str, version: str, reason: str) -> None:
        self._channel.send(Unhealthy(name, version, reason[:_LONGEST_REASON]))

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            await self._service.adopt(connection)
        except OSError:  # the client has left again
            connection.close()
            self._connection_closed()

    def _beat(self) -> None:
        stuck_before = self._watchdog.stuck
        self._watchdog.look()
        unavailable = self._service.context.store.unavailable() is not None
        self._channel.send(Heartbeat(self._watchdog.overdue, unavailable))
        if self._watchdog.stuck and not stuck_before:
            # The supervisor answers with Drain, behind the connections that are on their way.
            self._channel.send(Stuck(self._watchdog.stuck.model.facts.name))
            self._service.give_up(self._watchdog.stuck)
        asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)

    def _connection_closed(self) -> None:
        """Reports closed connections, those of one turn of the loop together."""
        if not self._closed:
            asyncio.get_running_loop().call_soon(self._report_closed)
        self._closed += 1

    def _report_closed(self) -> None:
        closed, self._closed = self._closed, 0
        self._channel.send(Closed(closed))


if __name__ == "__main__":
    main()
