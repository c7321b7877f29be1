"""A file that gives little at once: what a format's directory announces is not allocated unseen."""

from __future__ import annotations

import io
from typing import Protocol

from models.errors import ArchiveError

_PASSED_OVER = 1 << 20  # bytes at once


class _File(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int, /) -> int: ...

    def tell(self) -> int: ...


class BoundedFile(io.RawIOBase):
    """Passes reads on, within limits.

    Attributes:
        at_once: most bytes of one read.
        left: bytes that may still be read; None: any number.
    """

    def __init__(self, file: _File, at_once: int, left: int | None = None) -> None:
        super().__init__()
        self.at_once = at_once
        self.left = left
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Reads. Raises ArchiveError where it is asked for too much."""
        most = self.at_once + 1
        data = self._taken(most if size is None or size < 0 else min(size, most))
        if len(data) == most:
            raise ArchiveError(f"has a directory of more than {self.at_once:,} bytes")
        return data

    def _taken(self, size: int) -> bytes:
        """Reads, and counts what it has read. Raises ArchiveError."""
        data = self._file.read(size)
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                raise ArchiveError("unpacks to more than it may")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves. What a compressed stream passes over counts as read."""
        if self.left is None or whence != io.SEEK_SET or offset <= self._file.tell():
            return self._file.seek(offset, whence)
        while (missing := offset - self._file.tell()) > 0 and self._taken(min(missing, _PASSED_OVER)):
            pass
        return self._file.tell()

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True
