"""Where archives lie unpacked: private temporary folders, each of one archive in one process."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
import weakref
from pathlib import Path

from models.errors import ArchiveError
from models.machine.locked_folder import LockedFolder, make_locked_folder, remove_leftovers

PREFIX = "snapserve-archive-"
_CONTENT, _PACKAGES = "content", "packages"
_RESERVE = 256 << 20  # bytes of the disk that are left free

_owners: dict[LockedFolder, int] = {}  # the process that has made it: one that is forked removes nothing


class UnpackedFolder:
    """Exists as long as it is referred to, at most as long as the process.

    Attributes:
        content: folder of the archive's files.
        packages: folder for the packages that it needs; not made yet.
    """

    def __init__(self, size: int) -> None:
        """Makes it, and removes those of processes that have ended.

        Args:
            size: bytes that it is to hold.

        Raises:
            ArchiveError: there is not so much room; the message begins behind the archive's name.
            OSError: it cannot be made.
        """
        parent = Path(tempfile.gettempdir())
        remove_leftovers(parent, PREFIX)
        free = shutil.disk_usage(parent).free
        if size + _RESERVE > free:
            raise ArchiveError(f"unpacks to {size:,} bytes, but {parent} has room for {max(0, free - _RESERVE):,}")
        folder = make_locked_folder(parent, PREFIX)
        if not _owners:
            atexit.register(remove_unpacked)
        _owners[folder] = os.getpid()
        self._finalizer = weakref.finalize(self, _remove_aside, folder)
        self._finalizer.atexit = False
        self.content = folder.path / _CONTENT
        self.packages = folder.path / _PACKAGES
        self.content.mkdir(mode=0o700)

    def release(self) -> None:
        """Removes it, on a thread."""
        self._finalizer()


def remove_unpacked() -> None:
    """Removes the folders of this process and of those that have ended: for the end of a process."""
    for folder in list(_owners):
        _remove(folder)
    with contextlib.suppress(OSError):  # there is no temporary folder
        remove_leftovers(Path(tempfile.gettempdir()), PREFIX)


def _remove_aside(folder: LockedFolder) -> None:
    """On a thread: the last reference may go on an event loop, and the files may be large."""
    threading.Thread(target=_remove, args=(folder,), daemon=True).start()


def _remove(folder: LockedFolder) -> None:
    if _owners.pop(folder, None) == os.getpid():
        folder.remove()
        os.close(folder.lock)
