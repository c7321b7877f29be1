"""Parts of responses that a child sends before the end of its batch, as the child sees them."""

from __future__ import annotations

import base64
import select
import socket
from collections.abc import Iterable

from runtime.processes import frames


class PartChannel:
    """Sends parts of the batch that runs, and receives which clients have left."""

    def __init__(self, end: socket.socket) -> None:
        """Creates it; `end`: of the socket to the parent."""
        self._end = end
        self._batch = 0
        self._left: set[int] = set()
        self._is_closed = False

    def begin(self, batch: int) -> None:
        """A batch begins; `batch`: id of its message."""
        self._batch = batch
        self._left = set()

    def send(self, index: int, body: bytes, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Sends a part of the response to the item at that index. Raises OSError: the parent is gone."""
        text = base64.b64encode(body).decode("ascii")
        part = {"part": index, "body": text, "status": status, "headers": [list(pair) for pair in headers]}
        frames.send(self._end, {"id": self._batch, **part})

    def beat(self) -> None:
        """The batch goes on, with a part that is not sent. Raises OSError: the parent is gone."""
        frames.send(self._end, {"id": self._batch, "part": None})

    def has_left(self, index: int) -> bool:
        """Whether the client of that item has left."""
        while not self._is_closed and select.select([self._end], [], [], 0)[0]:
            received = frames.receive(self._end)
            if received is None:
                self._is_closed = True
            elif received[0]["id"] == self._batch:  # a notice; another batch does not come before the reply
                self._left.add(received[0]["left"])
        return self._is_closed or index in self._left
