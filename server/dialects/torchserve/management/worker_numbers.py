"""The numbers and times that TorchServe's clients see of the processes of archives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from runtime.transition import Key

_FIRST = 9000


class Numbered(NamedTuple):
    """One process, over all its restarts.

    Attributes:
        number: that no other one has in the life of the server.
        since: when it was asked for.
    """

    number: int
    since: datetime


def _now() -> datetime:
    return datetime.now(UTC)


class WorkerNumbers:
    """Counts the processes that archives were ever given."""

    def __init__(self, clock: Callable[[], datetime] = _now) -> None:
        """Creates it; clock: tells the time."""
        self._now = clock
        self._next = _FIRST
        self._by_model: dict[Key, list[Numbered]] = {}

    def update(self, wanted: Mapping[Key, int]) -> None:
        """Gives numbers to processes that are new, and forgets those that are gone; the last ones go first.

        Args:
            wanted: processes that each version is to have.
        """
        self._by_model = {key: self._by_model.get(key, [])[:count] for key, count in wanted.items()}
        for key, count in wanted.items():
            while len(self._by_model[key]) < count:
                self._by_model[key].append(Numbered(self._next, self._now()))
                self._next += 1

    def of(self, key: Key) -> list[Numbered]:
        """The processes of a version."""
        return self._by_model.get(key, [])
