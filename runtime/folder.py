"""A folder of models that clients and operators name by relative paths."""

from __future__ import annotations

import re
from pathlib import Path

from runtime.errors import UnknownModel

_LONGEST_TEXT = 1024  # characters
_LONGEST_PART = 255  # bytes of one name, on every file system in use
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class StoreFolder:
    """The only folder below which models are opened while the server runs.

    Attributes:
        path: of it, absolute, with links resolved.
    """

    def __init__(self, root: Path) -> None:
        """Takes a folder that is there."""
        self.path = root.resolve(strict=True)

    def resolve(self, text: str) -> Path:
        """The file or folder of that relative path. Nothing is opened.

        Args:
            text: names separated by "/"; "." is ignored.

        Raises:
            UnknownModel: there is none; or the text is absolute, a URL or too long, has "..", or leads outside by
                a link.
        """
        if not _is_plain(text):
            raise _unknown()
        try:
            found = (self.path / text).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # not there, a circle of links, not representable
            raise _unknown() from None
        if found == self.path or not found.is_relative_to(self.path):
            raise _unknown()
        return found

    def inside(self, path: Path) -> Path:
        """The file of a model to which a path leads that begins with the folder's own; see `resolve`.

        Raises:
            UnknownModel: there is none; or the path is another one, has "..", or leads outside by a link.
        """
        try:
            return self.resolve(path.relative_to(self.path).as_posix())
        except (UnknownModel, ValueError):
            raise UnknownModel(f"{path.name[:80]!r}, which the model names, is not in the store.") from None


def _is_plain(text: str) -> bool:
    parts = text.split("/")
    return (
        0 < len(text) <= _LONGEST_TEXT
        and text.isprintable()
        and not text.startswith(("/", "~"))
        and "\\" not in text
        and ".." not in parts
        and not _URL.match(text)
        and all(len(part.encode(errors="replace")) <= _LONGEST_PART for part in parts)
    )


def _unknown() -> UnknownModel:
    return UnknownModel("No model of that name is in the store.")
