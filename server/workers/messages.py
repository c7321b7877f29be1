"""Messages between the supervisor and one worker, and the socket that carries them."""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from server.config import Config
from server.operations.watchdog import INTERVAL_S

SPARE = "spare"  # on the command line of a worker whose settings come later
HEARTBEAT_S = INTERVAL_S  # interval of a worker that is ready; each heartbeat looks at its engines

_FULL = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ETOOMANYREFS)
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EBADF)
_ORDER_BYTES = 2
_MOST_AT_ONCE = 64


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is told at its start.

    Attributes:
        number: its place among the workers, from 0.
        config: its own.
        channel: descriptor of its end of the socket to the supervisor.
        lifeline: descriptor of a pipe that is closed when the supervisor has ended.
        metrics: folder of the figures that the workers share; None where there is no room for one.
        started_at: monotonic time of its start; that clock is the same in all processes.
        delay_s: seconds to wait before the models are loaded, because the worker before it ended soon.
        start_s: how long the last start of a worker took, in seconds; 0: unknown.
    """

    number: int
    config: Config
    channel: int
    lifeline: int
    metrics: Path | None
    started_at: float
    delay_s: float
    start_s: float


@dataclass(frozen=True)
class Adopt:
    """Serve a connection. None: no descriptor was left to receive it."""

    connection: socket.socket | None


@dataclass(frozen=True)
class ReadyWorkers:
    """How many workers are ready, at most 255."""

    count: int


@dataclass(frozen=True)
class Leave:
    """Say that you are not ready, and go on."""


@dataclass(frozen=True)
class Drain:
    """Answer the requests in flight, and end."""


Order = Adopt | ReadyWorkers | Leave | Drain


@dataclass(frozen=True)
class Ready:
    """The models are loaded; a description of each."""

    models: list[str]


@dataclass(frozen=True)
class Failed:
    """A model cannot be served; the reason in one line."""

    reason: str


@dataclass(frozen=True)
class Heartbeat:
    """The event loop runs.

    Attributes:
        overdue: an engine is busy for far longer than usual.
        unavailable: no process of an engine runs, and the next one is not started at once.
    """

    overdue: bool = False
    unavailable: bool = False


@dataclass(frozen=True)
class Closed:
    """So many connections were closed."""

    count: int


@dataclass(frozen=True)
class Leaving:
    """Somebody told the worker itself to stop."""


@dataclass(frozen=True)
class Stuck:
    """The engine of a model does not come back from a batch."""

    model: str


@dataclass(frozen=True)
class Draining:
    """The drain begins with so many requests in flight."""

    in_flight: int


@dataclass(frozen=True)
class Drained:
    """The drain is over: requests that were answered in it, and that were not."""

    answered: int
    unanswered: int


Report = Ready | Failed | Heartbeat | Closed | Leaving | Stuck | Draining | Drained
_REPORTS = {kind.__name__: kind for kind in (Ready, Failed, Heartbeat, Closed, Leaving, Stuck, Draining, Drained)}

# An order on the wire is two bytes, so that a stream of them needs no borders; Drain is the end of the stream.
_ADOPT, _READY_WORKERS, _LEAVE = b"c", b"r", b"l"


class SupervisorEnd:
    """Sends orders, and reads reports.

    Attributes:
        socket: non-blocking; readable when there are reports.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._rest = b""

    def send(self, order: Adopt | ReadyWorkers | Leave) -> bool:
        """Sends an order. A connection is duplicated: the caller closes its own.

        Returns:
            False when there is no room because earlier orders are unread, or the worker is gone.
        """
        try:
            if isinstance(order, Adopt):
                assert order.connection is not None
                socket.send_fds(self.socket, [_ADOPT + b"\0"], [order.connection.fileno()])
            elif isinstance(order, ReadyWorkers):
                self.socket.send(_READY_WORKERS + bytes([min(order.count, 255)]))
            else:
                self.socket.send(_LEAVE + b"\0")
        except OSError as error:
            if error.errno in (*_FULL, *_GONE):
                return False
            raise
        return True

    def drain(self) -> None:
        """Sends Drain, behind every earlier order; there is always room for it."""
        with contextlib.suppress(OSError):  # the worker has ended already
            self.socket.shutdown(socket.SHUT_WR)

    def reports(self) -> list[Report] | None:
        """The reports since the last call; None when the worker has closed its end."""
        try:
            received = self.socket.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received:
            return None
        *lines, self._rest = (self._rest + received).split(b"\n")
        return [_report(line) for line in lines]


def _report(line: bytes) -> Report:
    fields = json.loads(line)
    return _REPORTS[fields.pop("report")](**fields)


class WorkerEnd:
    """Reads orders, and sends reports.

    Attributes:
        socket: non-blocking; readable when there are orders.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end

    def orders(self) -> Iterator[Order]:
        """The orders that have come, at most some dozens at once, so that the event loop goes on."""
        for _ in range(_MOST_AT_ONCE):
            try:
                message, descriptors, _, _ = socket.recv_fds(self.socket, _ORDER_BYTES, 1)
            except BlockingIOError:
                return
            if not message:
                yield Drain()
                return
            if message[:1] == _ADOPT:
                yield Adopt(socket.socket(fileno=descriptors[0]) if descriptors else None)
            else:
                yield ReadyWorkers(message[1]) if message[:1] == _READY_WORKERS else Leave()

    @property
    def abandoned(self) -> bool:
        """Whether the supervisor has closed its end. After Drain alone it has not: it still reads reports."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def send(self, report: Report) -> None:
        """Sends a report. Reports are short and the supervisor reads all the time, so there is room.

        A supervisor that has ended gets none.
        """
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(json.dumps({"report": type(report).__name__, **asdict(report)}).encode() + b"\n")
