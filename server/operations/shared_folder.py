"""A folder of files of fixed size that several processes map: allocated before, and removed after any end."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("snapserve")

_MEMORY = Path("/dev/shm")
_PREFIX = "snapserve-metrics-"
_SUFFIX = ".db"


@dataclass(frozen=True)
class SharedFolder:
    """A folder that belongs to this process; another that starts removes those whose owners have ended.

    Attributes:
        path: of the folder.
        lock: descriptor of it; the kernel unlocks it when this process ends, however it does.
    """

    path: Path
    lock: int

    def remove(self) -> None:
        """Removes it and what is in it."""
        remove_folder(self.path)


def make_shared_folder(names: Sequence[str], size: int) -> SharedFolder | None:
    """A folder of zeroed files, in memory where Linux has such a place and it has room, else on the disk.

    Says in a line what does not have room.

    Args:
        names: of the files, without their suffix.
        size: of each, in bytes.

    Returns:
        The folder; None where there is no room for it anywhere.
    """
    reasons = []
    for parent in _parents():
        _remove_leftovers(parent)
        try:
            folder = _make_in(parent, names, size)
        except OSError as error:
            reasons.append(f"{parent} ({error.strerror})")
            continue
        if reasons:
            log.warning("no room for the metrics in %s; they are in %s", reasons[0], folder.path)
        return folder
    log.warning("no room for the metrics in %s; each worker reports its own only", " or ".join(reasons))
    return None


def remove_folder(path: Path) -> None:
    """Removes the folder of a process that ends; no process can make a file in it meanwhile."""
    with contextlib.suppress(OSError):  # another process removes it
        shutil.rmtree(path.rename(f"{path}-removed"), ignore_errors=True)


def allocate(descriptor: int, size: int) -> None:
    """Makes a file at least so long and gives it all of its room: without it, a write to its map is a SIGBUS.

    Raises:
        OSError: there is not so much room.
    """
    if sys.platform == "linux":
        os.posix_fallocate(descriptor, 0, size)
    elif os.fstat(descriptor).st_size < size:
        os.truncate(descriptor, size)


def _parents() -> Iterator[Path]:
    if _MEMORY.is_dir():
        yield _MEMORY
    yield Path(tempfile.gettempdir())


def _make_in(parent: Path, names: Sequence[str], size: int) -> SharedFolder:
    folder = _locked_in(parent)
    try:
        for name in names:
            with (folder.path / f"{name}{_SUFFIX}").open("wb") as file:
                allocate(file.fileno(), size)
    except OSError:
        folder.remove()
        os.close(folder.lock)
        raise
    return folder


def _locked_in(parent: Path) -> SharedFolder:
    """A new folder. Another process that starts just now may take it for a leftover until it is locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY)
            _lock(lock, wait=True)
            if path.exists():
                return SharedFolder(path, lock)
            os.close(lock)


def _remove_leftovers(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it is another user's, its owner lives, or it has just gone
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _lock(lock, wait=False)
                if all(file.suffix == _SUFFIX for file in path.iterdir()):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(descriptor: int, wait: bool) -> None:
    """Locks a folder for this process alone. Raises BlockingIOError where another has locked it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
