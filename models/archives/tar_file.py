"""`.tar.gz`: a compressed tar archive, its files in one folder at the top."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.archives.archive import FOLDER
from models.archives.bounded import BoundedFile
from models.archives.limits import ArchiveLimits
from models.archives.members import Member, checked
from models.archives.packed import read, write
from models.errors import ArchiveError, NoManifest

_AT_ONCE = 1 << 20
_HEADER = 8192  # bytes of one: tarfile's expressions take time by the square of it
_HEADERS = 4096  # bytes of headers for each member that is allowed

# What a damaged archive makes gzip and tarfile raise.
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError)


class TarArchive:
    """A compressed tar archive. It has no directory: each look at it reads it from the start.

    Attributes:
        members: by path, without the folder at the top; they were checked.
    """

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        """Reads it once.

        Args:
            path: of the file.
            limits: of it.

        Raises:
            NoManifest: it is no such archive.
            ArchiveError: a member is refused; the message begins behind the archive's name.
        """
        self._path = path
        size = path.stat().st_size
        self._most = limits.most_unpacked(size) + limits.members * _HEADERS
        try:
            with self._opened() as (tar, _):
                found = checked(map(_member, tar), size, limits)
        except ArchiveError:
            raise
        except _DAMAGE:
            raise NoManifest("is no .tar.gz archive, or damaged") from None
        self._all = list(found.items())
        top = _top(found)
        self.members = {
            path.removeprefix(top): member for path, member in self._all if not top or path != top[:-1]
        }

    def read(self, path: str, most: int) -> bytes:
        """See Packed."""
        for found, member, tar, info in self._walk():
            if found == path:
                stream = tar.extractfile(info)
                assert stream is not None
                return read(stream, member, most)
        raise ArchiveError("has changed while it was read")

    def unpack(self, into: Path) -> None:
        """See Packed."""
        for path, member, tar, info in self._walk():
            if member.is_folder:
                (into / path).mkdir(mode=0o700, parents=True, exist_ok=True)
                continue
            stream = tar.extractfile(info)
            assert stream is not None
            write(stream, member, into / path)

    def close(self) -> None:
        """See Packed."""

    def _walk(self) -> Iterator[tuple[str, Member, tarfile.TarFile, tarfile.TarInfo]]:
        """The members in the order of the file, as far as they are those that were checked."""
        paths = {id(member): path for path, member in self.members.items()}
        try:
            with self._opened() as (tar, bounded):
                for (_, member), info in zip(self._all, tar, strict=True):
                    if _member(info) != member:
                        raise ArchiveError("has changed while it was read")
                    if id(member) in paths:
                        bounded.at_once = _AT_ONCE
                        yield paths[id(member)], member, tar, info
                        bounded.at_once = _HEADER
        except _DAMAGE:
            raise ArchiveError("is damaged") from None

    @contextmanager
    def _opened(self) -> Iterator[tuple[tarfile.TarFile, BoundedFile]]:
        with gzip.open(self._path) as stream:
            bounded = BoundedFile(stream, _HEADER, self._most)
            with tarfile.open(fileobj=bounded, mode="r:") as tar:
                yield tar, bounded


def _top(paths: Iterable[str]) -> str:
    """The folder in which everything lies, with a slash behind it; "" where the manifest's is at the top."""
    names = {path.partition("/")[0] for path in paths}
    return f"{names.pop()}/" if len(names) == 1 and FOLDER not in names else ""


def _member(info: tarfile.TarInfo) -> Member:
    return Member(info.name, 0 if info.isdir() else info.size, info.isdir(), _refusal(info))


def _refusal(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "is a link"
    if info.issparse():
        return "is a sparse file"
    if info.size < 0:  # the next header would lie before it
        return "has a negative size"
    return "" if info.isreg() or info.isdir() else "is neither a file nor a folder"
