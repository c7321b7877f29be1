"""Lines written by a thread of their own: a reader that stands still, or a full disk, blocks no other thread."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import sys
import threading
from collections import deque
from functools import cache

_ROOM = 1 << 20  # characters that wait for the thread; what goes beyond is dropped and counted
_LONGEST = 1 << 13  # characters after which a line that does not end is written all the same
_PATIENCE_S = 1.0  # at the end of the process
_STDIN, _STDOUT, _STDERR = range(3)


class LineWriter(io.TextIOBase):
    """A text stream whose `write` never waits and never fails, in place of `sys.stdout` and `sys.stderr`.

    The next line that is written tells how many were dropped before it.

    Attributes:
        dropped: lines that were dropped.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int, room: int = _ROOM) -> None:
        """Starts the thread.

        Args:
            descriptor: where the lines go.
            room: characters that may wait.
        """
        self.dropped = 0
        self._descriptor = descriptor
        self._room = room
        self._lines: deque[tuple[int, str]] = deque()  # each with the number of lines that were dropped before it
        self._waiting = 0  # characters
        self._untold = 0  # lines that were dropped since the last one that was taken
        self._begun = ""
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=f"lines-{descriptor}", daemon=True).start()

    def write(self, text: str) -> int:
        """Takes a text; what follows its last line end waits for the rest of its line."""
        with self._changed:
            lines, end, self._begun = (self._begun + text).rpartition("\n")
            self._put(lines + end, self._room)
            if len(self._begun) > _LONGEST:
                self._put_begun()
        return len(text)

    def offer(self, line: str) -> None:
        """Takes a line of less weight: half of the room stays free for the others."""
        with self._changed:
            self._put(line + "\n", self._room // 2)

    def finish(self, seconds: float = _PATIENCE_S) -> bool:
        """Waits until everything is written, so many seconds at most; whether it is."""
        with self._changed:
            self._put_begun()
            return self._changed.wait_for(lambda: not self._lines, seconds)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """True."""
        return True

    def _put_begun(self) -> None:
        begun, self._begun = self._begun, ""
        self._put(begun, self._room)

    def _put(self, text: str, room: int) -> None:
        if not text:
            return
        if self._waiting + len(text) > room:
            self._untold += text.count("\n")
            self.dropped += text.count("\n")
            return
        self._lines.append((self._untold, text))
        self._untold = 0
        self._waiting += len(text)
        self._changed.notify_all()

    def _run(self) -> None:
        lost = 0  # lines that could not be written
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                dropped, text = self._lines[0]
            lost = self._write_out(dropped + lost, text)
            with self._changed:
                self._lines.popleft()
                self._waiting -= len(text)
                self._changed.notify_all()

    def _write_out(self, missed: int, text: str) -> int:
        """Writes a text, and before it how many lines are missing there; returns how many are missing after it."""
        try:
            if missed:
                self._write_all(f"snapserve: {missed} log lines were dropped: slow reader or full disk\n")
                missed = 0
            self._write_all(text)
        except OSError:  # the reader is gone, or the disk is full
            with self._changed:
                self.dropped += text.count("\n")
            return missed + text.count("\n")
        return 0

    def _write_all(self, text: str) -> None:
        left = memoryview(text.encode(self.encoding, self.errors))
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # another process that shares the pipe has made it non-blocking
                select.select([], [self._descriptor], [])


@cache
def line_writer(descriptor: int) -> LineWriter:
    """The process's one writer to a descriptor."""
    return LineWriter(descriptor)


def take_over_streams() -> None:
    """Lets everything that Python code of this process prints or logs from now on go through a `LineWriter`."""
    _fill_closed_descriptors()
    sys.stdout, sys.stderr = line_writer(_STDOUT), line_writer(_STDERR)
    atexit.register(finish_lines)


def _fill_closed_descriptors() -> None:
    """Opens those of the standard descriptors that are closed: a socket could get the number, and our lines."""
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def finish_lines() -> None:
    """Waits until both streams are written, for each a second at most."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, LineWriter):
            stream.finish()
        else:
            with contextlib.suppress(OSError):
                stream.flush()


def dropped_lines() -> int:
    """Lines of this process that were dropped so far."""
    return line_writer(_STDOUT).dropped + line_writer(_STDERR).dropped
