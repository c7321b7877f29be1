"""A TorchServe archive that the optimiser is given: opened, checked, and removed again. Knows no torch."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.archives.archive import Archive
from models.archives.classifier import HANDLER, is_classifier
from models.archives.open import describe, open_archive
from models.archives.unpacked import UnpackedFolder
from models.bundles.settings import Resolver
from models.errors import ArchiveError, ModelError
from models.optimize.errors import UsageError

_AS_IT_IS = "serve the archive as it is (docs/torchserve.md)"
_ALONE = f"{_AS_IT_IS}, or optimise its network alone: --from FILE.pt --labels FILE"


@dataclass(frozen=True)
class ArchiveSource:
    """An archive with `image_classifier`, whose files are there.

    Attributes:
        archive: that was checked.
        scratch: empty folder for what is made of it; it is removed with the archive's files.
    """

    archive: Archive
    scratch: Path


@contextmanager
def opened(path: Path | None, allow_code: bool) -> Iterator[ArchiveSource | None]:
    """Checks an archive and unpacks it; what lies unpacked is removed at the end of the context.

    Args:
        path: of the file or folder; None gives None.
        allow_code: whether a network whose class the archive brings may run.

    Raises:
        UsageError: it is damaged or hostile, has another handler, code that may not run, or asks for packages.
    """
    with ExitStack() as stack:
        yield None if path is None else _open(path, allow_code, stack)


def _open(path: Path, allow_code: bool, stack: ExitStack) -> ArchiveSource:
    try:
        archive = _unpacked(path)
        stack.callback(archive.release, waits=True)
        _check(archive, allow_code)
        scratch = UnpackedFolder(0, secrets.token_hex(), _nothing)
        stack.callback(scratch.release, waits=True)
    except ModelError as error:
        raise UsageError(str(error)) from None
    except OSError as error:  # of the temporary folder
        raise UsageError(f"{path}: cannot be unpacked ({error.strerror})") from None
    return ArchiveSource(archive, scratch.content)


def _nothing(_content: Path, _packages: Path) -> None:
    """Nothing lies there at first."""


def _unpacked(path: Path) -> Archive:
    resolve = _within(path.resolve().parent)
    wanted = describe(path, resolve).manifest.requirements_file
    if wanted:
        raise ArchiveError(f"{path}: asks for packages ({wanted}), which are not installed here; {_AS_IT_IS}")
    return open_archive(path, resolve)


def _check(archive: Archive, allow_code: bool) -> None:
    """Raises ArchiveError."""
    path, manifest = archive.path, archive.manifest
    if not is_classifier(archive, manifest.handler):
        if manifest.handler != HANDLER or (archive.folder / f"{HANDLER}.py").exists():
            raise ArchiveError(f"{path}: its handler {manifest.handler!r} is a program of its own; {_ALONE}")
        raise ArchiveError(f"{path}: has neither TorchScript (.pt) nor a class with its weights; {_AS_IT_IS}")
    if manifest.model_file and not allow_code:
        raise ArchiveError(f"{path}: its network is a program ({manifest.model_file}); --allow-code lets it run")


def _within(store: Path) -> Resolver:
    """Refuses links of an unpacked archive that lead out of the folder in which it lies."""

    def resolve(path: Path) -> Path:
        real = path.resolve()
        if not real.is_relative_to(store):
            raise ArchiveError(f"{path.name[:80]!r} is a link that leads out of {store}")
        return real

    return resolve
