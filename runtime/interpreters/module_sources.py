"""Modules whose source the manager has registered: importable, without a file."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType


class ModuleSources(MetaPathFinder, InspectLoader):
    """Finds and loads them. An entry of `sys.meta_path`."""

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}

    def add(self, name: str, text: str) -> None:
        """Makes a module importable; one of that name that is imported already stays as it is."""
        self._sources[name] = text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a registered module; None for all others."""
        return spec_from_loader(fullname, self) if fullname in self._sources else None

    def is_package(self, fullname: str) -> bool:
        """Whether modules below it are registered."""
        return any(name.startswith(f"{fullname}.") for name in self._sources)

    def get_source(self, fullname: str) -> str:
        """Its text; also for the lines of a traceback."""
        text = self._sources[fullname]
        lines = text.splitlines(keepends=True)
        linecache.cache[f"<{fullname}>"] = (len(text), None, lines, f"<{fullname}>")
        return text

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        """Its code."""
        return compile(self.get_source(fullname), f"<{fullname}>", "exec", dont_inherit=True)
