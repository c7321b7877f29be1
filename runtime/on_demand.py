"""Models that requests name by path, loaded on first use."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from runtime.errors import UnknownModel
from runtime.room import Room
from runtime.stay import AnyDeployment, Stay, Use
from runtime.version import AnyModel, Version


class OnDemand:
    """A catalog of what lies in a folder. It keeps nothing of models that are not loaded."""

    def __init__(self, open_source: Callable[[str], AnyModel], room: Room) -> None:
        """Creates it, empty.

        Args:
            open_source: path -> model, on a thread. Raises UnknownModel, ModelError.
            room: where they are loaded.
        """
        self._open_source = open_source
        self._room = room
        self._known: dict[str, Version] = {}

    def peek(self, name: str | None, version: str | None = None) -> AnyDeployment | None:
        """See Catalog."""
        found = self._known.get(_key(name))
        return found.deployment if found else None

    async def until_workers(self, name: str | None, version: str | None, deadline: float | None) -> None:
        """See Catalog; there are no such models."""

    def use(self, name: str | None, version: str | None = None, deadline: float | None = None) -> Use:
        """See Catalog; there is one version of each. Entering raises ModelError where it does not load."""
        return Use(lambda: self._stay(_key(name)), deadline)

    async def forget(self, name: str) -> bool:
        """Frees a model: the next request reads its file again. Returns whether it was loaded."""
        version = self._known.pop(_key(name), None)
        if version is None:
            return False
        await self._room.free(version)
        return True

    def _stay(self, key: str) -> Stay:
        version = self._known.get(key)
        if version is None:
            version = Version(key, "1", lambda: self._open_source(key), False, lambda: self._drop(key))
            self._known[key] = version
        return self._room.stay_of(version)

    def _drop(self, key: str) -> None:
        version = self._known.get(key)
        if version is not None and version.stay is None:
            del self._known[key]


def _key(name: str | None) -> str:
    """One key for `a.pt` and `./a.pt`."""
    if not name:
        raise UnknownModel("No model is named.")
    return posixpath.normpath(name)
