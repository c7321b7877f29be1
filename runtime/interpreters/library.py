"""What every interpreter is to know: module sources and packages, told to each with its next message."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from runtime.interpreters.errors import InterpreterError

News = list[list[Any]]

# A module that every interpreter can import.
ARGUMENT_NAMES = """
import inspect


def argument_names(function):
    return list(inspect.signature(function).parameters)
"""


class Library:
    """Sources by module name and package files by number. Usable from any thread.

    Attributes:
        version: grows with each change.
    """

    def __init__(self) -> None:
        self.version = 0
        self._entries: dict[tuple[str, str | int], tuple[int, list[Any]]] = {}
        self._packages = 0
        self._changing = threading.Lock()

    @property
    def sources(self) -> dict[str, str]:
        """Text by module name."""
        return {entry[1]: entry[2] for _, entry in list(self._entries.values()) if entry[0] == "source"}

    def add_source(self, name: str, text: str) -> None:
        """Makes a module importable, or replaces its text."""
        self._add(("source", name), ["source", name, text])

    def add_package(self, file: Path) -> int:
        """Gives a package file a number. Raises InterpreterError where there is no file."""
        with self._changing:
            self._packages += 1
            number = self._packages
        self._add(("package", number), ["package", number, str(file.absolute()), stamp_of(str(file))])
        return number

    def drop_package(self, number: int) -> None:
        """Lets interpreters forget a package."""
        self._add(("package", number), ["dropped", number])

    def since(self, version: int) -> News:
        """The entries that are newer."""
        if version == self.version:
            return []
        return [entry for added, entry in list(self._entries.values()) if added > version]

    def _add(self, key: tuple[str, str | int], entry: list[Any]) -> None:
        with self._changing:
            if entry[0] == "dropped" and key not in self._entries:
                return
            self._entries[key] = self.version + 1, entry
            self.version += 1


def stamp_of(file: str) -> list[int]:
    """What tells a file from one that has taken its place. Raises InterpreterError where there is none."""
    try:
        status = Path(file).stat()
    except (OSError, ValueError) as error:
        raise InterpreterError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
