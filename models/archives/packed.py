"""An archive that was opened and checked; what is packed is not unpacked yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from models.archives.members import Member, Members, shown
from models.errors import ArchiveError

_CHUNK = 1 << 20


class Opened(Protocol):
    """Files of one format, or of a folder.

    Attributes:
        members: by path; they were checked.
    """

    members: Members

    def read(self, path: str, most: int) -> bytes:
        """The content of a file. Raises ArchiveError where it is longer than `most` bytes, or damaged."""
        ...

    def close(self) -> None:
        """Closes its file."""
        ...


class Packed(Opened, Protocol):
    """Files that are in one file."""

    def unpack(self, into: Path) -> None:
        """Writes all members below an empty folder. Raises ArchiveError, OSError."""
        ...


def content(stream: IO[bytes], member: Member) -> Iterator[bytes]:
    """The content of a file, in pieces. Raises ArchiveError where it is not of the size that was announced."""
    left = member.size
    while data := stream.read(_CHUNK):
        left -= len(data)
        if left < 0:
            break
        yield data
    if left:
        raise ArchiveError(f"the member {shown(member.name)} is not of the size that the archive says")


def write(stream: IO[bytes], member: Member, file: Path) -> None:
    """Writes a file that is not there yet. Raises ArchiveError, OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("xb") as written:
        for data in content(stream, member):
            written.write(data)


def read(stream: IO[bytes], member: Member, most: int) -> bytes:
    """Reads a file that has at most so many bytes. Raises ArchiveError."""
    if member.size > most:
        raise ArchiveError(f"the member {shown(member.name)} is longer than {most:,} bytes")
    return b"".join(content(stream, member))
