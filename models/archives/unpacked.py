"""Temporary folders of unpacked archives, each shared by the processes of one server."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from models.errors import ArchiveError
from models.machine.locked_folder import LockedFolder, join_folder, leave_folder, remove_leftovers

PREFIX = "snapserve-archive-"
_CONTENT, _PACKAGES = "content", "packages"
_RESERVE = 256 << 20  # bytes of the disk that are left free

_owners: dict[LockedFolder, int] = {}  # the process that uses it: one that is forked removes nothing
_group = [secrets.token_hex(8)]


def unpack_with(group: str) -> None:
    """Shares what this process unpacks with processes that are told the same text, unknown to other users."""
    _group[:] = [group]


class UnpackedFolder:
    """Exists as long as a process of the server refers to it.

    Attributes:
        content: folder of the archive's files.
        packages: folder of the packages that it needs.
    """

    def __init__(self, size: int, identity: str, fill: Callable[[Path, Path], None]) -> None:
        """Makes it unless another process of the server has, and removes those of processes that have ended.

        Args:
            size: bytes that it is to hold.
            identity: the same for the same content.
            fill: writes the content and the packages into these two folders, of which the second is not made.

        Raises:
            ArchiveError: there is not so much room; the message begins behind the archive's name.
            OSError: it cannot be made.
            Exception: of `fill`.
        """
        parent = Path(tempfile.gettempdir())
        remove_leftovers(parent, PREFIX)

        def fill_all(path: Path) -> None:
            free = shutil.disk_usage(parent).free
            if size + _RESERVE > free:
                room = max(0, free - _RESERVE)
                raise ArchiveError(f"unpacks to {size:,} bytes, but {parent} has room for {room:,}")
            (path / _CONTENT).mkdir(mode=0o700)
            fill(path / _CONTENT, path / _PACKAGES)

        name = hashlib.sha256(f"{_group[0]} {identity}".encode()).hexdigest()[:32]
        folder = join_folder(parent / f"{PREFIX}{name}", fill_all)
        if not _owners:
            atexit.register(remove_unpacked)
        _owners[folder] = os.getpid()
        self._folder = folder
        self._finalizer = weakref.finalize(self, _remove_aside, folder)
        self._finalizer.atexit = False
        self.content = folder.path / _CONTENT
        self.packages = folder.path / _PACKAGES

    def release(self, waits: bool = False) -> None:
        """Removes it, on a thread, unless another process uses it. waits: until it is gone."""
        if not waits:
            self._finalizer()
        elif self._finalizer.detach():
            _remove(self._folder)


def remove_unpacked() -> None:
    """Removes the folders that no other process uses: for the end of a process."""
    for folder in list(_owners):
        _remove(folder)
    with contextlib.suppress(OSError):  # there is no temporary folder
        remove_leftovers(Path(tempfile.gettempdir()), PREFIX)


def _remove_aside(folder: LockedFolder) -> None:
    """On a thread: the last reference may go on an event loop, and the files may be large."""
    threading.Thread(target=_remove, args=(folder,), daemon=True).start()


def _remove(folder: LockedFolder) -> None:
    if _owners.pop(folder, None) == os.getpid():
        leave_folder(folder)
