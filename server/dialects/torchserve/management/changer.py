"""What the management API needs of what changes the models of all workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from runtime.model_set import ModelSet
from server.management import changer
from server.management.changer import Operation


class Changer(changer.Changer, Protocol):
    """Changes the models of all workers; see `server.workers.changes.Changes`."""

    async def change(self, operation: Operation, /, must: bool = False) -> ModelSet:
        """Changes the set; raises a RuntimeFault where it stays as it was."""
        ...

    def pids(self) -> Mapping[int, int]:
        """The process id of each worker."""
        ...

    async def describe(self, name: str, version: str, headers: Mapping[str, str], /) -> Any:
        """The description that the handler of an archive gives."""
        ...
