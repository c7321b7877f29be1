"""A temporary folder that belongs to one process: another that starts removes those whose owners have ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LockedFolder:
    """A folder that only its owner and root can enter.

    Attributes:
        path: of the folder.
        lock: descriptor of it; the kernel unlocks it when this process ends, however it does.
    """

    path: Path
    lock: int

    def remove(self) -> None:
        """Removes it and what is in it."""
        remove_folder(self.path)


def make_locked_folder(parent: Path, prefix: str) -> LockedFolder:
    """A new folder. Another process that starts just now may take it for a leftover until it is locked.

    Args:
        parent: folder in which it is made.
        prefix: of its name.

    Raises:
        OSError: it cannot be made there.
    """
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY)
            _lock(lock, wait=True)
            if path.exists():
                return LockedFolder(path, lock)
            os.close(lock)


def remove_folder(path: Path) -> None:
    """Removes the folder of a process that ends; no process can make a file in it meanwhile."""
    with contextlib.suppress(OSError):  # another process removes it
        shutil.rmtree(path.rename(f"{path}-removed"), ignore_errors=True)


def remove_leftovers(parent: Path, prefix: str, is_ours: Callable[[Path], bool] = Path.is_dir) -> None:
    """Removes folders whose owners have ended.

    Args:
        parent: folder in which they are.
        prefix: of their names.
        is_ours: whether a folder of that name looks like one.
    """
    for path in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # it is another user's, its owner lives, or it has just gone
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _lock(lock, wait=False)
                if is_ours(path):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(descriptor: int, wait: bool) -> None:
    """Locks a folder for this process alone. Raises BlockingIOError where another has locked it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
