"""Messages between the supervisor and one worker, and the socket that carries them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from runtime.model_set import ModelSet
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
        models: that are to be served.
        group: a text that all workers of the server have, and no other process.
    """

    number: int
    config: Config
    channel: int
    lifeline: int
    metrics: Path | None
    started_at: float
    delay_s: float
    start_s: float
    models: ModelSet
    group: str


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


@dataclass(frozen=True)
class Prepare:
    """Load what is new in a set of models, without a client seeing it. None: no descriptor was left to receive it.

    Attributes:
        change: its number, 0 to 255.
        models: JSON of a `ModelSet`.
    """

    change: int
    models: str | None


@dataclass(frozen=True)
class Commit:
    """Serve what was prepared."""

    change: int


@dataclass(frozen=True)
class Undo:
    """Take back what was prepared, or is being prepared."""

    change: int


@dataclass(frozen=True)
class Show:
    """Write what is known of every model into a file, as JSON.

    Attributes:
        question: its number, 0 to 255.
        answer: descriptor of the file; None: none was left to receive it.
    """

    question: int
    answer: int | None


@dataclass(frozen=True)
class Describe:
    """Ask the handler of an archive what it says of itself, and write that over the question.

    Attributes:
        question: its number, 0 to 255.
        file: descriptor of a file with JSON: `name`, `version`, `headers`; then `metadata`, or `error`, the name
            of an exception. None: none was left to receive it.
    """

    question: int
    file: int | None


Order = Adopt | ReadyWorkers | Leave | Drain | Prepare | Commit | Undo | Show | Describe


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
    """The worker itself got a signal to stop."""


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


@dataclass(frozen=True)
class Prepared:
    """What is new in a set of models is loaded."""

    number: int


@dataclass(frozen=True)
class Committed:
    """The set of models is served, and what is gone is freed."""

    number: int


@dataclass(frozen=True)
class Undone:
    """The models are as before the change."""

    number: int


@dataclass(frozen=True)
class Refused:
    """A change cannot be prepared, and is undone here; or it cannot be committed or undone.

    Attributes:
        number: of the change.
        order: name of the order that was not obeyed.
        kind: name of the exception.
        reason: in one line.
    """

    number: int
    order: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Shown:
    """The file has the answer to a question."""

    number: int


@dataclass(frozen=True)
class Unhealthy:
    """A version that became the default lately fails too often."""

    name: str
    version: str
    reason: str


Change = Prepare | Commit | Undo
ChangeReport = Prepared | Committed | Undone | Refused | Shown
Report = Ready | Failed | Heartbeat | Closed | Leaving | Stuck | Draining | Drained | ChangeReport | Unhealthy
_REPORTS: Mapping[str, Callable[..., Report]] = {kind.__name__: kind for kind in get_args(Report)}

# An order on the wire is two bytes, so that a stream of them needs no borders; Drain is the end of the stream.
# What takes more than a byte is in a file in memory, whose descriptor goes with the order.
_ADOPT, _READY_WORKERS, _LEAVE = b"c", b"r", b"l"
_PREPARE, _COMMIT, _UNDO, _SHOW, _DESCRIBE = b"p", b"o", b"u", b"s", b"d"


class SupervisorEnd:
    """Sends orders, and reads reports.

    Attributes:
        socket: non-blocking; readable when there are reports.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._rest = b""

    def send(self, order: Adopt | ReadyWorkers | Leave | Change | Show | Describe) -> bool:
        """Sends an order. A descriptor is duplicated: the caller closes its own.

        Returns:
            False when there is no room because earlier orders are unread, or the worker is gone.
        """
        try:
            self._send(order)
        except OSError as error:
            if error.errno in (*_FULL, *_GONE):
                return False
            raise
        return True

    def _send(self, order: Adopt | ReadyWorkers | Leave | Change | Show | Describe) -> None:
        match order:
            case Adopt(connection):
                assert connection is not None
                socket.send_fds(self.socket, [_ADOPT + b"\0"], [connection.fileno()])
            case ReadyWorkers(count):
                self.socket.send(_READY_WORKERS + bytes([min(count, 255)]))
            case Leave():
                self.socket.send(_LEAVE + b"\0")
            case Prepare(change, models):
                assert models is not None
                with file_in_memory(models.encode()) as file:
                    socket.send_fds(self.socket, [_PREPARE + bytes([change])], [file])
            case Commit(change):
                self.socket.send(_COMMIT + bytes([change]))
            case Undo(change):
                self.socket.send(_UNDO + bytes([change]))
            case Show(question, answer):
                assert answer is not None
                socket.send_fds(self.socket, [_SHOW + bytes([question])], [answer])
            case Describe(question, file):
                assert file is not None
                socket.send_fds(self.socket, [_DESCRIBE + bytes([question])], [file])

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
    fields: dict[str, Any] = json.loads(line)
    return _REPORTS[fields.pop("report")](**fields)


@contextlib.contextmanager
def file_in_memory(data: bytes = b"") -> Iterator[int]:
    """Descriptor of a file that lies in memory and has no name; closed at the end."""
    descriptor = os.memfd_create("snapserve-models")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(descriptor: int) -> bytes:
    """All of a file from its beginning, wherever another process that has it stands."""
    size = os.fstat(descriptor).st_size
    parts = bytearray()
    while len(parts) < size and (part := os.pread(descriptor, size - len(parts), len(parts))):
        parts += part
    return bytes(parts)


def _taken(descriptor: int) -> str:
    try:
        return read_file(descriptor).decode()
    finally:
        os.close(descriptor)


_ORDERS: Mapping[bytes, Callable[[int, int | None], Order]] = {
    _ADOPT: lambda _, file: Adopt(None if file is None else socket.socket(fileno=file)),
    _READY_WORKERS: lambda count, _: ReadyWorkers(count),
    _LEAVE: lambda *_: Leave(),
    _PREPARE: lambda change, file: Prepare(change, None if file is None else _taken(file)),
    _COMMIT: lambda change, _: Commit(change),
    _UNDO: lambda change, _: Undo(change),
    _SHOW: Show,
    _DESCRIBE: Describe,
}


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
            except ConnectionResetError:  # the supervisor was killed, and had not read every report
                message, descriptors = b"", []
            if not message:
                yield Drain()
                return
            yield _ORDERS[message[:1]](message[1], descriptors[0] if descriptors else None)

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
