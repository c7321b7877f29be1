"""`.mar`: a zip archive."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.archives.bounded import BoundedFile
from models.archives.limits import ArchiveLimits
from models.archives.members import Member, checked
from models.archives.packed import read, write
from models.errors import ArchiveError, NoManifest

_ENCRYPTED = 0x1  # of a member's flags
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DIRECTORY_ENTRY = 512  # bytes of the directory for each member that is allowed
_AT_ONCE = 64 << 20

# What a damaged archive makes zipfile raise.
_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, ValueError, EOFError, RuntimeError)


class ZipArchive:
    """A zip archive.

    Attributes:
        members: by path; they were checked.
    """

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        """Reads its directory.

        Args:
            path: of the file.
            limits: of it.

        Raises:
            NoManifest: it is no zip archive.
            ArchiveError: a member is refused; the message begins behind the archive's name.
        """
        self._file = path.open("rb")
        try:
            size = path.stat().st_size
            self._zip = self._opened(limits)
            infos = self._zip.infolist()
            self.members = checked(map(_member, infos), size, limits)
            self._infos = dict(zip(self.members, infos, strict=True))
            if sum(info.compress_size for info in infos) > size:
                raise ArchiveError("has members that lie over each other")
        except BaseException:
            self._file.close()
            raise

    def _opened(self, limits: ArchiveLimits) -> zipfile.ZipFile:
        bounded = BoundedFile(self._file, max(1 << 20, limits.members * _DIRECTORY_ENTRY))
        try:
            opened = zipfile.ZipFile(bounded)
        except _DAMAGE:
            raise NoManifest("is no zip archive, or damaged") from None
        bounded.at_once = _AT_ONCE
        return opened

    def read(self, path: str, most: int) -> bytes:
        """See Packed."""
        with _damage_told(), self._zip.open(self._infos[path]) as stream:
            return read(stream, self.members[path], most)

    def unpack(self, into: Path) -> None:
        """See Packed."""
        for path, member in self.members.items():
            if member.is_folder:
                (into / path).mkdir(mode=0o700, parents=True, exist_ok=True)
                continue
            with _damage_told(), self._zip.open(self._infos[path]) as stream:
                write(stream, member, into / path)

    def close(self) -> None:
        """See Packed."""
        self._zip.close()
        self._file.close()


def _member(info: zipfile.ZipInfo) -> Member:
    # zipfile cuts a name at its first NUL.
    return Member(info.orig_filename, info.file_size, info.is_dir(), _refusal(info))


def _refusal(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if kind == stat.S_IFLNK else "is neither a file nor a folder"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return "is compressed by another method than deflate"
    return "is a folder with content" if info.is_dir() and info.file_size else ""


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except _DAMAGE:
        raise ArchiveError("is damaged") from None
