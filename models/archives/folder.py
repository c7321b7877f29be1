"""An archive that was unpacked before: a folder in the model store, used where it lies."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from models.archives.limits import ArchiveLimits
from models.archives.members import Member, checked, shown
from models.bundles.settings import Resolver
from models.errors import ArchiveError


class FolderArchive:
    """A folder of files.

    Attributes:
        members: by path; they were checked.
    """

    def __init__(self, path: Path, limits: ArchiveLimits, resolve: Resolver) -> None:
        """Looks at every file; opens none.

        Args:
            path: of the folder.
            limits: of it.
            resolve: gets the path of each link, and raises where it leads out of the model store.

        Raises:
            ArchiveError: a file is refused; the message begins behind the folder's name.
        """
        self._path = path
        self._resolve = resolve
        self.members = checked(self._walk("", limits.depth), limits.unpacked, limits)

    def read(self, path: str, most: int) -> bytes:
        """See Opened."""
        try:
            with self._resolve(self._path / path).open("rb") as stream:
                data = stream.read(most + 1)
        except OSError:
            raise ArchiveError(f"the member {shown(path)} cannot be read") from None
        if len(data) > most:
            raise ArchiveError(f"the member {shown(path)} is longer than {most:,} bytes")
        return data

    def close(self) -> None:
        """See Opened."""

    def _walk(self, below: str, depth: int) -> Iterator[Member]:
        with os.scandir(self._path / below) as entries:
            for entry in entries:
                name = below + entry.name
                if entry.is_symlink():
                    self._resolve(self._path / name)
                found = entry.stat()
                is_folder = stat.S_ISDIR(found.st_mode)
                refusal = "" if is_folder or stat.S_ISREG(found.st_mode) else "is neither a file nor a folder"
                if is_folder and entry.is_symlink():
                    refusal = "is a link to a folder"
                yield Member(name, 0 if is_folder else found.st_size, is_folder, refusal)
                if is_folder and depth:
                    yield from self._walk(f"{name}/", depth - 1)
