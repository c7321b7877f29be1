"""Accepts connections, also where no descriptor is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable

from server.operations.rare_line import RareLine

log = logging.getLogger("snapserve")

_MOST_AT_ONCE = 32  # connections that are accepted before others get their turn
_PAUSE_S = 0.01  # until a connection that was not taken is offered again
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_LEFT_AGAIN = (errno.ECONNABORTED, errno.EPROTO)


class Acceptor:
    """Accepts on a port, on the running event loop.

    Not the loop's own server: out of descriptors uvloop's resets clients without a word, and loses the port when
    another thread opens a file at that moment; asyncio's logs each attempt, and leaves clients waiting.

    Attributes:
        waiting: a connection that was accepted and not taken yet, or None.
    """

    def __init__(self, listening: socket.socket, take: Callable[[socket.socket], bool]) -> None:
        """Creates it; it accepts once `start` was called.

        Args:
            listening: where clients connect.
            take: given a connection that is its own from then on; False when it cannot have it now.
        """
        self.waiting: socket.socket | None = None
        self._listening = listening
        self._listening.setblocking(False)
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._spare = _open_spare()
        self._warn = RareLine(log)

    def start(self) -> None:
        """Offers what was not taken, then accepts further connections."""
        if self.waiting is not None:
            if not self._take(self.waiting):
                self._loop.call_later(_PAUSE_S, self.start)
                return
            self.waiting = None
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    async def close(self) -> None:
        """Gives out what the kernel has accepted, then closes the port."""
        while self._accept() or self.waiting:  # noqa: ASYNC110  what waits is offered by a timer
            await asyncio.sleep(_PAUSE_S)
        self._loop.remove_reader(self._listening)
        self._listening.close()
        self._close_spare()

    def _accept(self) -> bool:
        """Accepts and gives out; returns whether there may be more at once."""
        if self.waiting is not None:
            return False
        for _ in range(_MOST_AT_ONCE):
            try:
                connection = self._accept_one()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in _LEFT_AGAIN:
                    continue
                self._warn("a connection could not be accepted: %s", os.strerror(error.errno or 0))
                self._pause()
                return False
            if connection is not None and not self._take(connection):
                self.waiting = connection
                self._pause()
                return False
        return True

    def _accept_one(self) -> socket.socket | None:
        """A connection; None for one that was refused, because it took the last descriptor."""
        try:
            return self._listening.accept()[0]
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise
        self._refuse_one()
        return None

    def _refuse_one(self) -> None:
        """Closes a connection with the descriptor that is kept for this: a client that is refused tries elsewhere.

        Raises:
            OSError: another thread was quicker to take the descriptor.
        """
        self._close_spare()
        try:
            self._listening.accept()[0].close()
            self._warn("a connection was refused: no descriptor is left; `ulimit -n` sets how many there are")
        finally:
            self._spare = _open_spare()

    def _close_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _pause(self) -> None:
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_PAUSE_S, self.start)


def _open_spare() -> int | None:
    with contextlib.suppress(OSError):
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    return None
