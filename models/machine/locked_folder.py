"""A temporary folder that belongs to one process: another that starts removes those whose owners have ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_FILLED = "filled"  # a file in a folder that is shared: it is whole
_AGAIN_S = 0.01  # before a folder that has just gone, or is not filled yet, is looked at again


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


def join_folder(path: Path, fill: Callable[[Path], None]) -> LockedFolder:
    """A folder that several processes share; `leave_folder` ends that. The first one fills it, the others wait.

    Args:
        path: of it. No other user may know it before it is there.
        fill: writes into the folder; what it raises is raised here, and the folder is gone.

    Raises:
        OSError: it cannot be made there.
    """
    while True:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _has_joined(lock, path, fill):
                    return LockedFolder(path, lock)
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)
        time.sleep(_AGAIN_S)


def _has_joined(lock: int, path: Path, fill: Callable[[Path], None]) -> bool:
    """False: another process has removed it meanwhile, or is about to fill it.

    It never waits for the lock that is for one alone: those that have joined keep theirs.
    """
    try:
        _lock(lock, wait=False)
        is_alone = True
    except BlockingIOError:
        is_alone = False
    if is_alone and _is_at(lock, path) and not (path / _FILLED).exists():
        if any(path.iterdir()):  # a process was killed while it filled it
            remove_folder(path)
            return False
        try:
            fill(path)
            (path / _FILLED).touch()
        except BaseException:
            remove_folder(path)
            raise
    # Waits while another fills it. The one that did has no lock for a moment.
    fcntl.flock(lock, fcntl.LOCK_SH)
    return _is_at(lock, path) and (path / _FILLED).exists()


def _is_at(lock: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock), path.lstat())
    return False


def leave_folder(folder: LockedFolder) -> None:
    """Lets go of a folder; the last process that does removes it."""
    with contextlib.suppress(BlockingIOError):
        _lock(folder.lock, wait=False)
        if _is_at(folder.lock, folder.path):
            folder.remove()
    os.close(folder.lock)


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
                    remove_folder(path)
            finally:
                os.close(lock)


def _lock(descriptor: int, wait: bool) -> None:
    """Locks a folder for this process alone. Raises BlockingIOError where another has locked it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
