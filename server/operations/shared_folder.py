"""A folder of files of fixed size that several processes map: allocated before, and removed after any end."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.machine.locked_folder import LockedFolder, make_locked_folder, remove_leftovers

log = logging.getLogger("snapserve")

_MEMORY = Path("/dev/shm")
_PREFIX = "snapserve-metrics-"
_SUFFIX = ".db"


def make_shared_folder(names: Sequence[str], size: int) -> LockedFolder | None:
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
        remove_leftovers(parent, _PREFIX, _is_ours)
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


def _make_in(parent: Path, names: Sequence[str], size: int) -> LockedFolder:
    folder = make_locked_folder(parent, _PREFIX)
    try:
        for name in names:
            with (folder.path / f"{name}{_SUFFIX}").open("wb") as file:
                allocate(file.fileno(), size)
    except OSError:
        folder.remove()
        os.close(folder.lock)
        raise
    return folder


def _is_ours(path: Path) -> bool:
    return all(file.suffix == _SUFFIX for file in path.iterdir())
