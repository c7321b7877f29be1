"""Where a bundle goes: made in a folder beside it and moved into place, so a failure never destroys a good one."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.bundles.bundle import MANIFEST
from models.optimize.errors import OptimizeError, UsageError


def check_replaceable(output: Path, force: bool) -> None:
    """Raises UsageError unless `output` may become a bundle: free, empty, or a bundle that `force` gives up."""
    if not output.exists():
        return
    if not output.is_dir():
        raise UsageError(f"--output {output}: is a file, not a folder")
    if (output / MANIFEST).exists():
        if not force:
            raise UsageError(f"--output {output}: holds a bundle already (--force replaces it)")
    elif any(output.iterdir()):
        raise UsageError(f"--output {output}: is a folder of something else and is left alone")


@contextmanager
def workshop(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output`, on the same file system; removed at the end with what is left in it.

    Raises:
        OptimizeError: the folder cannot be made.
    """
    folder = _sibling(output)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OptimizeError(f"--output {output}: cannot be written ({error.strerror})") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(folder: Path, output: Path) -> None:
    """Renames `folder` to `output`; a bundle that was there is removed once the new one is in its place."""
    target = Path(os.path.realpath(output))
    old = _sibling(target)
    if not target.exists():
        folder.rename(target)
        return
    target.rename(old)
    try:
        folder.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(output: Path) -> Path:
    real = Path(os.path.realpath(output))
    return real.with_name(f".{real.name}.{uuid.uuid4().hex[:8]}")
