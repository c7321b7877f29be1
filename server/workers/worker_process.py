"""One worker as the supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import secrets
import socket
import time
from collections.abc import Callable

from runtime.model_set import ModelSet
from server.config import Config
from server.operations.shared_metrics import SharedMetrics
from server.workers.messages import (
    Adopt,
    Closed,
    Drained,
    Draining,
    Heartbeat,
    Ready,
    Report,
    SupervisorEnd,
    WorkerSettings,
)
from snapserve.interpreter import module_command

_DOUBTFUL_HEARTBEATS = 4  # missed within a second
_GROUP = secrets.token_hex(8)


class WorkerProcess:
    """A process that serves.

    Attributes:
        number: its place, from 0; -1 before it has one.
        started_at: monotonic time at which it began to be a worker.
        connections: that it was given and that are not closed.
        ready_at: monotonic time at which it became ready; None before.
        leaving: it gets no further connections.
        in_flight: requests in flight when its drain began; None before.
        missed_heartbeats: since its last report.
        overdue: whether one of its engines is busy for far longer than usual.
        unavailable: whether one of its engines cannot be started now.
        drained: its last report; None before.
        models: that it serves, or began with; None before it has a place.
        outdated: it was told to end because its models are no longer the right ones.
        follows_outdated: it takes the place of one to which that happened before it was ready.
    """

    def __init__(self, on_report: Callable[[WorkerProcess, Report | None], None]) -> None:
        """Creates it; `spawn` starts the process, `begin` makes it a worker.

        Args:
            on_report: given what the worker reports; None when it has closed its end.
        """
        self.number = -1
        self.started_at = time.monotonic()
        self.connections = 0
        self.ready_at: float | None = None
        self.leaving = False
        self.in_flight: int | None = None
        self.drained: Drained | None = None
        self.missed_heartbeats = 0
        self.overdue = self.unavailable = False
        self.models: ModelSet | None = None
        self.outdated = self.follows_outdated = False
        self._delay_s = 0.0
        self._on_report = on_report

    @property
    def start_s(self) -> float:
        """How long its start took, without the delay that it was told; 0 before it is ready."""
        return 0.0 if self.ready_at is None else self.ready_at - self.started_at - self._delay_s

    @property
    def doubtful(self) -> bool:
        """Whether a connection would rather not be given to it."""
        return self.overdue or self.unavailable or self.missed_heartbeats >= _DOUBTFUL_HEARTBEATS

    @property
    def is_awaited(self) -> bool:
        """Whether it, or the next one in its place, is to become ready before the models change again."""
        return self.ready_at is None and (self.outdated or (self.follows_outdated and not self.leaving))

    async def spawn(self, lifeline: int, *words: str) -> None:
        """Starts the process: a new interpreter, in a session of its own, so that Ctrl-C reaches us alone.

        It waits for `begin`.

        Args:
            lifeline: reading end of a pipe that only we can write to.
            words: for its command line.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self.channel = SupervisorEnd(ours)
            self.process = await asyncio.create_subprocess_exec(
                *module_command("server.workers.worker", *words),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(), lifeline),
                start_new_session=True,
            )
            self._descriptors = theirs.fileno(), lifeline
        asyncio.get_running_loop().add_reader(self.channel.socket, self._read)

    def begin(
        self,
        number: int,
        config: Config,
        shared: SharedMetrics | None,
        delay_s: float,
        start_s: float,
        models: ModelSet,
    ) -> None:
        """Lets it become a worker.

        Args:
            number: its place.
            config: of this worker.
            shared: the folder of the figures; None where there is none.
            delay_s: seconds that it waits before it loads the models.
            start_s: how long the last start of a worker took; 0: unknown.
            models: that it serves.
        """
        self.number, self.started_at, self._delay_s, self.models = number, time.monotonic(), delay_s, models
        folder = shared.folder if shared else None
        times = self.started_at, delay_s, start_s
        settings = WorkerSettings(*(number, config, *self._descriptors, folder, *times, models, _GROUP))
        assert self.process.stdin is not None
        self.process.stdin.write(pickle.dumps(settings))
        self.process.stdin.close()

    def give(self, connection: socket.socket) -> bool:
        """Hands a client's connection over; False when the worker does not take it."""
        taken = self.channel.send(Adopt(connection))
        self.connections += taken
        return taken

    def leave(self) -> None:
        """Tells it to answer what it has, and to end."""
        self.leaving = True
        self.channel.drain()

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def wait(self) -> int:
        """Waits for the end of the process, and returns its exit code, or minus the signal."""
        code = await self.process.wait()
        while self._read():  # what it said last
            pass
        self._hang_up()
        return code

    def _read(self) -> bool:
        """Takes what it has reported. Returns whether there was anything."""
        if self.channel.socket.fileno() < 0:
            return False
        reports = self.channel.reports()
        for report in reports or ():
            self._note(report)
            self._on_report(self, report)
        if reports is None:
            self._hang_up()
        return bool(reports)

    def _note(self, report: Report) -> None:
        self.missed_heartbeats = 0
        match report:
            case Closed(count):
                self.connections -= count
            case Heartbeat(overdue, unavailable):
                self.overdue, self.unavailable = overdue, unavailable
            case Ready():
                self.ready_at = time.monotonic()
            case Draining(in_flight):
                self.in_flight = in_flight
            case Drained():
                self.drained = report

    def _hang_up(self) -> None:
        """Reports, once, that nothing more will come."""
        self.leaving = True
        if self.channel.socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.channel.socket)
            self.channel.socket.close()
            self._on_report(self, None)
