"""From a path in the model store to what an archive says of itself, and to its unpacked content."""

from __future__ import annotations

import dataclasses
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.archives.archive import Archive, Manifest
from models.archives.config import ArchiveConfig, read_config
from models.archives.folder import FolderArchive
from models.archives.limits import ArchiveLimits
from models.archives.manifest import PATH, read_manifest
from models.archives.packed import Opened, Packed
from models.archives.requirements import install
from models.archives.tar_file import TarArchive
from models.archives.unpacked import UnpackedFolder
from models.archives.yaml_file import read_yaml
from models.archives.zip_file import ZipArchive
from models.bundles.settings import Resolver, as_it_is
from models.errors import ArchiveError, NoManifest, RequirementsRefused

_LIMITS = ArchiveLimits()
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Description:
    """What an archive says of itself.

    Attributes:
        manifest: of it.
        config: the known keys of its YAML file.
        size: bytes of its files.
    """

    manifest: Manifest
    config: ArchiveConfig
    size: int


def describe(path: Path, resolve: Resolver = as_it_is, limits: ArchiveLimits = _LIMITS) -> Description:
    """Checks an archive and reads its manifest and YAML file. Nothing is written, and torch is not imported.

    Args:
        path: file or folder, in the model store.
        resolve: gets the path of each link in a folder, and raises where it leads out of the store.
        limits: of it.

    Raises:
        NoManifest: it is no model archive, or names no model.
        ArchiveError: it is damaged, hostile, or contradicts itself.
    """
    with _opened(path, resolve, limits) as opened:
        archive = _read(path, opened, limits)
        size = sum(member.size for member in opened.members.values())
        return Description(archive.manifest, read_config(archive.config, archive.manifest.name), size)


def open_archive(
    path: Path,
    resolve: Resolver = as_it_is,
    limits: ArchiveLimits = _LIMITS,
    installs_requirements: bool = False,
) -> Archive:
    """Checks an archive and unpacks it. A folder stays where it is.

    Processes of one server share what was unpacked. It is removed with the last reference to the result and at
    the end of the last process.

    Args:
        path: file or folder, in the model store.
        resolve: gets the path of each link in a folder, and raises where it leads out of the store.
        limits: of it.
        installs_requirements: whether the packages of its requirements file are installed, for it alone.

    Raises:
        NoManifest: it is no model archive, or names no model.
        ArchiveError: it is damaged, hostile, contradicts itself, or finds no room.
        RequirementsRefused: it asks for packages, and they are not to be installed, or cannot be.
    """
    with _opened(path, resolve, limits) as opened:
        archive = _read(path, opened, limits)
        wanted = archive.manifest.requirements_file
        if wanted and not installs_requirements:
            rule = "--install-requirements installs them, where code may run (--allow-code)"
            raise RequirementsRefused(f"asks for packages ({wanted}); {rule}")
        if not isinstance(opened, FolderArchive):
            return _unpacked(archive, opened)
        if not wanted:
            return archive
        unpacked = UnpackedFolder(0, secrets.token_hex(8), lambda _, packages: install(path / wanted, packages))
        return dataclasses.replace(archive, packages=unpacked.packages, lease=unpacked)


def _unpacked(archive: Archive, packed: Packed) -> Archive:
    wanted = archive.manifest.requirements_file

    def fill(content: Path, packages: Path) -> None:
        packed.unpack(content)
        if wanted:
            install(content / wanted, packages)

    size = sum(member.size for member in packed.members.values())
    unpacked = UnpackedFolder(size, _identity(archive.path), fill)
    packages = unpacked.packages if wanted else None
    return dataclasses.replace(archive, folder=unpacked.content, packages=packages, lease=unpacked)


def _identity(path: Path) -> str:
    """Another text for a file that was replaced or written. A folder has none: its files change without it."""
    found = path.stat()
    return f"{path} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _read(path: Path, opened: Opened, limits: ArchiveLimits) -> Archive:
    """What an archive says of itself, as one that lies in its own folder."""
    files = {name for name, member in opened.members.items() if not member.is_folder}
    if PATH not in files:
        raise NoManifest(f"has no {PATH}")
    manifest = read_manifest(opened.read(PATH, limits.text), files)
    name = manifest.config_file
    return Archive(path, path, manifest, read_yaml(opened.read(name, limits.text), name) if name else {})


@contextmanager
def _opened(path: Path, resolve: Resolver, limits: ArchiveLimits) -> Iterator[Packed | FolderArchive]:
    """An archive whose members were checked; its errors begin with its path."""
    try:
        opened = _open(path, resolve, limits)
        try:
            yield opened
        finally:
            opened.close()
    except (ArchiveError, RequirementsRefused) as error:
        raise type(error)(f"{path}: {error}") from None
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror or 'cannot be read'}") from None


def _open(path: Path, resolve: Resolver, limits: ArchiveLimits) -> Packed | FolderArchive:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return FolderArchive(path, limits, resolve)
    if not stat.S_ISREG(mode):  # a pipe, whose reader could wait for ever
        raise NoManifest("is neither a file nor a folder")
    with path.open("rb") as stream:
        is_compressed = stream.read(len(_GZIP)) == _GZIP
    return TarArchive(path, limits) if is_compressed else ZipArchive(path, limits)
