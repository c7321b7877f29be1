"""What archives ask for in their YAML files, read again when an archive has changed."""

from __future__ import annotations

from models.archives.config import ArchiveConfig
from models.archives.open import describe
from models.errors import ArchiveError
from runtime.errors import UnknownModel
from runtime.folder import StoreFolder


class YamlFiles:
    """Reads them, at any thread."""

    def __init__(self, folder: StoreFolder | None) -> None:
        """Creates it; folder: the model store."""
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int], ArchiveConfig]] = {}

    def of(self, path: str) -> ArchiveConfig:
        """The settings of the archive at a path below the model store; empty where it is gone or damaged."""
        if self._folder is None:
            return ArchiveConfig()
        try:
            file = self._folder.resolve(path)
            found = file.stat()
            identity = (found.st_mtime_ns, found.st_ino)
            if path not in self._known or self._known[path][0] != identity:
                self._known[path] = identity, describe(file, self._folder.inside).config
            return self._known[path][1]
        except (UnknownModel, ArchiveError, OSError):
            return ArchiveConfig()
