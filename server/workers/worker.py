"""`python -m server.workers.worker`: one of several processes that serve. The supervisor starts it."""

from __future__ import annotations

import asyncio
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import threading
from typing import NoReturn

from models.errors import ModelError
from runtime.store import find_bundles
from server.operations.logs import set_up_logs
from server.operations.loops import loop_factory
from server.operations.metrics import SharedMetrics
from server.service import Service, leave, loaded_before
from server.workers.channel import CONNECTION, DRAIN, LEAVE, READY_WORKERS, SHED, Order, WorkerEnd, until_beat
from server.workers.worker_settings import WorkerSettings

ORPHANED = 4  # exit code: the supervisor was gone


def main() -> NoReturn:
    """Reads the settings from the standard input, serves, and ends the process."""
    try:
        settings: WorkerSettings = pickle.load(sys.stdin.buffer)  # from the supervisor, our own program
    except EOFError:
        leave(ORPHANED)
    threading.Thread(target=_end_with_supervisor, args=(settings,), daemon=True).start()
    set_up_logs(settings.config.server.log_level, f"worker {settings.number}")
    channel = WorkerEnd(socket.socket(fileno=settings.channel))
    with asyncio.Runner(loop_factory=loop_factory(settings.config.server.loop)) as runner:
        runner.run(Worker(settings, channel).run())
    leave(0)


def _end_with_supervisor(settings: WorkerSettings) -> None:
    """Ends this process, whatever it is doing, as soon as the supervisor is no more."""
    while os.read(settings.lifeline, 1):
        pass
    _end_orphaned(settings)


def _end_orphaned(settings: WorkerSettings) -> NoReturn:
    shutil.rmtree(settings.metrics, ignore_errors=True)
    os._exit(ORPHANED)


class Worker:
    """Serves the connections that it is given, until it is told to drain."""

    def __init__(self, settings: WorkerSettings, channel: WorkerEnd) -> None:
        self._settings = settings
        self._channel = channel
        self._drain = asyncio.Event()
        self._closed = 0
        self._adopting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Loads, serves, drains, and ends the process."""
        loop, config = asyncio.get_running_loop(), self._settings.config
        shared = SharedMetrics(self._settings.metrics, str(self._settings.number))
        try:
            self._service = Service(config, find_bundles(config.models), shared, self._connection_closed)
            await self._service.start()
            loop.add_reader(self._channel.socket, self._obey)
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, lambda: self._channel.report(leaving=True))
            if not await loaded_before(self._drain, self._service):
                self._leave(0)
        except ModelError as error:
            self._channel.report(failed=str(error))
            leave(2)
        self._channel.report(ready=self._service.describe())
        self._show_life()
        await self._drain.wait()
        await self._end()

    async def _end(self) -> NoReturn:
        context = self._service.context
        before = context.answered
        self._channel.report(draining=context.in_flight)
        unanswered = await self._service.drain()
        self._channel.report(drained=context.answered - before, left=unanswered)
        self._leave(1 if unanswered else 0)

    def _leave(self, code: int) -> NoReturn:
        """Ends the process. The channel, which a dead supervisor closes too, may be quicker than the lifeline."""
        if select.select([self._settings.lifeline], [], [], 0)[0]:
            _end_orphaned(self._settings)
        leave(code)

    def _obey(self) -> None:
        for order in self._channel.orders():
            self._obey_one(order)

    def _obey_one(self, order: Order) -> None:
        if order.kind == CONNECTION and order.connection is not None:
            adopting = asyncio.ensure_future(self._adopt(order.connection))
            self._adopting.add(adopting)
            adopting.add_done_callback(self._adopting.discard)
        elif order.kind == CONNECTION:  # no descriptor was left for it
            self._connection_closed()
        elif order.kind == READY_WORKERS:
            self._service.context.ready_workers = order.number
        elif order.kind == LEAVE:
            self._service.context.leaving = True
        elif order.kind == SHED:
            self._service.context.to_shed = order.number
        elif order.kind == DRAIN:
            asyncio.get_running_loop().remove_reader(self._channel.socket)
            self._drain.set()

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            await self._service.adopt(connection)
        except OSError:  # the client has left again
            connection.close()
            self._connection_closed()

    def _show_life(self) -> None:
        self._channel.report(load=self._service.context.load.read())
        asyncio.get_running_loop().call_later(until_beat(), self._show_life)

    def _connection_closed(self) -> None:
        """Reports closed connections, those of one turn of the loop together."""
        if not self._closed:
            asyncio.get_running_loop().call_soon(self._report_closed)
        self._closed += 1

    def _report_closed(self) -> None:
        closed, self._closed = self._closed, 0
        self._channel.report(closed=closed)


if __name__ == "__main__":
    main()
