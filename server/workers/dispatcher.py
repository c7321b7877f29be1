"""Gives every connection to the worker that has the fewest."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable

from server.workers.worker_process import WorkerProcess

log = logging.getLogger("snapserve")

_MOST_AT_ONCE = 64  # connections that are accepted before others get their turn
_PAUSE_S = 0.01  # until a connection that no worker took is offered again


class Dispatcher:
    """Accepts on a port, on the running event loop.

    One process accepts, because it alone knows them all. docs/performance.md says what other ways lose.
    """

    def __init__(self, listening: socket.socket, workers: Callable[[], Iterable[WorkerProcess]]) -> None:
        """Creates it; it accepts once `start` was called.

        Args:
            listening: where clients connect.
            workers: all that there are at the moment.
        """
        self._listening = listening
        self._listening.setblocking(False)
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[socket.socket] = deque()

    def start(self) -> None:
        """Offers what no worker took, then accepts further connections."""
        while self._waiting:
            if not self._give(self._waiting[0]):
                self._loop.call_later(_PAUSE_S, self.start)
                return
            self._waiting.popleft().close()
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    async def close(self) -> None:
        """Gives out what the kernel has accepted, then closes the port."""
        while self._accept() or self._waiting:  # noqa: ASYNC110  what waits is offered by a timer
            await asyncio.sleep(_PAUSE_S)
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _accept(self) -> bool:
        """Accepts and gives out; returns whether there may be more at once."""
        for _ in range(_MOST_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except BlockingIOError:
                return False
            except OSError as error:  # the client has left again, or no descriptor is left
                log.warning("a connection could not be accepted: %s", os.strerror(error.errno or 0))
                self._pause()
                return False
            if not self._give(connection):
                self._waiting.append(connection)
                self._pause()
                return False
            connection.close()
        return True

    def _pause(self) -> None:
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_PAUSE_S, self.start)

    def _give(self, connection: socket.socket) -> bool:
        """To a ready worker, if possible one that is sure to answer; without any to one that is still loading."""
        able = [worker for worker in self._workers() if not worker.leaving]
        able = [worker for worker in able if worker.ready_at is not None] or able
        able.sort(key=lambda each: (each.doubtful, each.connections))
        return any(worker.give(connection) for worker in able)
