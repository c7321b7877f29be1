"""What a process prints, in the log of its parent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

log = logging.getLogger("snapserve")

_LEVELS = ("CRITICAL", "ERROR", "WARNING")
_PIPE = 1 << 16  # bytes that a pipe holds
_PIECE = 1 << 12  # bytes that are read at once: as many lines, if they are empty, take some milliseconds
_LONGEST_LINE = 1 << 20


class LogRelay:
    """A pipe that a process prints to. Warnings and errors are logged as such, the rest at level debug.

    Attributes:
        descriptor: the process's end.
        last_line: that it has printed.
    """

    def __init__(self, name: str) -> None:
        """Creates the pipe, on the running event loop; `name` begins each log line."""
        self._ours, self.descriptor = os.pipe()
        os.set_blocking(self._ours, False)
        self._name = name
        self._rest = b""
        self.last_line = "no output"
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._ours, self._read)

    def started(self) -> None:
        """The process runs, with a duplicate of its end."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def close(self) -> None:
        """Logs what has been printed, and no more."""
        self.started()
        for _ in range(_PIPE // _PIECE):
            if self._ours >= 0:
                self._read()
        self._end()

    def _read(self) -> None:
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._ours, _PIECE)
            if not data:
                self._end()
        *lines, self._rest = (self._rest + data)[-_LONGEST_LINE:].split(b"\n")
        for line in lines:
            self._log(line.decode(errors="replace"))

    def _end(self) -> None:
        if self._ours >= 0:
            self._loop.remove_reader(self._ours)
            os.close(self._ours)
            self._ours = -1

    def _log(self, line: str) -> None:
        level, _, text = line.partition(":")
        known = level in _LEVELS
        self.last_line = text if known else line
        log.log(logging.getLevelName(level) if known else logging.DEBUG, "%s: %s", self._name, self.last_line)
