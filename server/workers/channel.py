"""The socket between the supervisor and one worker: connections and orders go down, reports come up."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

# An order is two bytes, so that a stream of them can be read without looking for borders.
CONNECTION = b"c"  # with a client's connection attached
READY_WORKERS = b"r"  # the second byte says how many are ready
SHED = b"s"  # the second byte says how many connections are to end with their next answers
LEAVE = b"l"  # to say that it is not ready, and go on
DRAIN = b""  # the end of the stream: answer what is there, and end

MOST = 255  # that the second byte can say

BEAT_S = 1.0  # how often a worker that is ready reports its load

_FULL = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ETOOMANYREFS)
_ORDER_BYTES = 2
_MOST_AT_ONCE = 64


def until_beat(after: float = 0.0) -> float:
    """Seconds to the next beat, or to the moment `after` it, in beats; to none that is less than half a beat away.

    The machine's clock sets the beat, so what all processes report is of the same second.
    """
    return ((after - 0.5 - time.monotonic() / BEAT_S) % 1 + 0.5) * BEAT_S


class Order(NamedTuple):
    """What the supervisor wants: a kind, a number that goes with some, a connection that goes with one."""

    kind: bytes
    number: int
    connection: socket.socket | None


class SupervisorEnd:
    """Sends orders, and reads reports.

    Attributes:
        socket: non-blocking; readable when there are reports.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._rest = b""

    def order(self, kind: bytes, number: int = 0, connection: socket.socket | None = None) -> bool:
        """Sends an order; a connection is duplicated, so the caller closes his own.

        Returns:
            False when the worker has not read earlier ones and there is no room, or it is gone.
        """
        try:
            if connection is None:
                self.socket.send(kind + bytes([number]))
            else:
                socket.send_fds(self.socket, [kind + bytes([number])], [connection.fileno()])
        except OSError as error:
            if error.errno in (*_FULL, errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                return False
            raise
        return True

    def drain(self) -> None:
        """Orders the end, after everything that was ordered before; there is always room for that."""
        with contextlib.suppress(OSError):  # the worker has ended already
            self.socket.shutdown(socket.SHUT_WR)

    def reports(self) -> list[dict[str, Any]] | None:
        """What has been reported since the last call; None when the worker has closed its end."""
        try:
            received = self.socket.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received:
            return None
        *lines, self._rest = (self._rest + received).split(b"\n")
        return [json.loads(line) for line in lines]


class WorkerEnd:
    """Reads orders, and sends reports.

    Attributes:
        socket: non-blocking; readable when there are orders.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end

    def orders(self) -> Iterator[Order]:
        """The orders that have come, at most some dozens at once, so that others get their turn."""
        for _ in range(_MOST_AT_ONCE):
            try:
                message, descriptors, _, _ = socket.recv_fds(self.socket, _ORDER_BYTES, 1)
            except BlockingIOError:
                return
            if not message:
                yield Order(DRAIN, 0, None)
                return
            connection = socket.socket(fileno=descriptors[0]) if descriptors else None
            yield Order(message[:1], message[1], connection)

    def report(self, **facts: Any) -> None:
        """Tells the supervisor. Reports are short and it reads all the time, so there is room."""
        self.socket.sendall(json.dumps(facts).encode() + b"\n")
