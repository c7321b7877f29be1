"""The connections of a process, and how many there may be."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from server.http.turns import Turns
from server.operations.rare_line import RareLine

log = logging.getLogger("snapserve")

SPARE = 16  # connections beyond the cap, for probes
_IDLE_S = 1.0  # before a connection may be closed for another: its client may be about to send the next request
_LOOK_AT = 64  # connections, for an idle one: a bound of what one more connection costs


class Place(Protocol):
    """A connection, as far as it takes a place.

    Attributes:
        spare: whether it is beyond the cap: it is answered once, and no images are taken from it.
    """

    spare: bool

    def close_if_idle(self, idle_s: float = 0.0) -> bool:
        """Closes if no request is being answered or received, and none was in the last `idle_s` seconds."""
        ...

    def close_unless_answering(self) -> bool:
        """Closes unless a request is being answered."""
        ...

    def refuse(self) -> None:
        """Closes, with a response that says that there are too many connections."""
        ...

    def abort(self) -> None:
        """Drops the connection and what was still to be sent."""
        ...


class Connections:
    """The connections that are open.

    When there are as many as allowed, the next one takes the place of an idle one; if there is none, a spare
    place, where it is answered anything but an image.

    Attributes:
        turns: shared by all for parsing.
    """

    def __init__(
        self,
        on_closed: Callable[[], None] | None = None,
        most: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates an empty set.

        Args:
            on_closed: called after a connection was closed.
            most: connections that may be open, without the spare ones; 0: no limit.
            clock: in seconds.
        """
        self._on_closed = on_closed
        self._most = most
        self._open: OrderedDict[Place, None] = OrderedDict()  # those that were looked at last are at its end
        self._spare: OrderedDict[Place, None] = OrderedDict()  # by age
        self._empty = asyncio.Event()
        self._empty.set()
        self._warn = RareLine(log, clock)
        self.turns = Turns()

    def __len__(self) -> int:
        return len(self._open) + len(self._spare)

    def add(self, connection: Place) -> None:
        """Counts a connection as open, and makes room for it or refuses it."""
        self._empty.clear()
        if not self._most or len(self._open) < self._most or self._close_idle_one():
            self._open[connection] = None
            return
        connection.spare = True
        full = len(self._spare) >= SPARE and not self._close_spare_one()
        self._spare[connection] = None
        if full:
            self._warn("a connection was refused: %d are open and busy (--max-connections)", len(self))
            connection.refuse()
        else:
            self._warn("a connection takes no images: %d are open (--max-connections)", len(self))

    def remove(self, connection: Place) -> None:
        """Counts a connection as closed."""
        self._open.pop(connection, None)
        self._spare.pop(connection, None)
        if not len(self):
            self._empty.set()
        if self._on_closed:
            self._on_closed()

    def close_idle(self) -> None:
        """Closes every connection on which no request is under way or half received."""
        for connection in (*self._open, *self._spare):
            connection.close_if_idle()

    def abort(self) -> None:
        """Drops every connection."""
        for connection in (*self._open, *self._spare):
            connection.abort()

    async def wait_closed(self) -> None:
        """Waits until no connection is open."""
        await self._empty.wait()

    def _close_idle_one(self) -> bool:
        """Closes a connection that has been idle for a while; the next search begins behind it."""
        for _ in range(min(_LOOK_AT, len(self._open))):
            connection = next(iter(self._open))
            if connection.close_if_idle(_IDLE_S):
                self._open.pop(connection, None)
                return True
            self._open.move_to_end(connection)
        return False

    def _close_spare_one(self) -> bool:
        for connection in self._spare:
            if connection.close_unless_answering():
                self._spare.pop(connection, None)
                return True
        return False
