"""Gives every connection to the worker that has the fewest."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence

from server.operations.acceptor import Acceptor
from server.workers.worker_process import WorkerProcess


class Dispatcher:
    """Accepts on every port, on the running event loop.

    One process accepts, because it alone knows them all. docs/performance.md says what other ways lose.
    """

    def __init__(self, listening: Sequence[socket.socket], workers: Callable[[], Iterable[WorkerProcess]]) -> None:
        """Creates it; it accepts once `start` was called.

        Args:
            listening: where clients connect.
            workers: all that there are at the moment.
        """
        self._workers = workers
        self._acceptors = [Acceptor(each, self._give) for each in listening]

    def start(self) -> None:
        """Begins to accept."""
        for acceptor in self._acceptors:
            acceptor.start()

    async def close(self) -> None:
        """Gives out what the kernel has accepted, then closes the ports."""
        await asyncio.gather(*(acceptor.close() for acceptor in self._acceptors))

    def _give(self, connection: socket.socket) -> bool:
        """To a ready worker, if possible one that is sure to answer; without any to one that is still loading."""
        able = [worker for worker in self._workers() if not worker.leaving]
        able = [worker for worker in able if worker.ready_at is not None] or able
        able.sort(key=lambda each: (each.doubtful, each.connections))
        if not any(worker.give(connection) for worker in able):
            return False
        connection.close()  # the worker has a descriptor of its own
        return True
