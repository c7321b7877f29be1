"""The connection of a client that has closed its sending side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

# What every response begins with, whatever its status and version.
_BEGINNING = b"HTTP/1."
# Seconds between its bytes. The second byte at once: where the peer is on this machine, it fails already.
_PAUSES_S = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0)


class HalfClosed:
    """A transport that finds out whether its client still reads.

    A FIN says that a client sends nothing more. The same FIN comes from a client that waits for its response
    after `shutdown(SHUT_WR)`, and from one that has called `close()` or has ended. Only data tell them apart: the
    kernel of a closed client answers them with RST. So the beginning of the response, the same for all, is sent
    early, byte by byte; the response itself goes on where that has ended.

    Everything else is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        """Creates it, for a connection whose response has not begun; nothing is sent yet."""
        self._transport = transport
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def probe(self) -> None:
        """Sends a byte of the response's beginning, and the next one later. The transport closes if one fails."""
        self._timer = None
        if self._transport.is_closing() or self._sent >= len(_BEGINNING):
            return
        self._transport.write(_BEGINNING[self._sent : self._sent + 1])
        self._sent += 1
        if self._sent <= len(_PAUSES_S):
            pause = _PAUSES_S[self._sent - 1]
            if pause:
                self._timer = asyncio.get_running_loop().call_later(pause, self.probe)
            else:
                self.probe()

    def stop(self) -> None:
        """Sends no further byte by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Writes what of the response was not sent yet."""
        self.stop()
        self._transport.write(memoryview(data)[self._sent :] if self._sent else data)
        self._sent = 0

    def writelines(self, data: Iterable[bytes]) -> None:
        """Writes pieces of the response as one."""
        pieces: Sequence[bytes] = tuple(data)
        self.write(b"".join(pieces))
