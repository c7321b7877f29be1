"""What changes the models of all workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from runtime.model_set import ModelSet

Operation = Callable[[ModelSet], ModelSet]


class Changer(Protocol):
    """Changes the models of all workers.

    Attributes:
        committed: what they serve.
    """

    committed: ModelSet

    async def change(self, operation: Operation, /) -> ModelSet:
        """Changes the set; raises a RuntimeFault where it stays as it was."""
        ...

    async def show(self) -> Mapping[int, Sequence[Mapping[str, Any]]]:
        """The state of the models in each worker."""
        ...
