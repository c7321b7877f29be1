"""How much each worker has to do, and which of its clients had better be another's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Load(NamedTuple):
    """What a worker had to do of late.

    Attributes:
        in_flight: requests that were being answered, on average.
        latency_s: mean time of those that were answered, in seconds, from their last byte to their answer.
    """

    in_flight: float = 0.0
    latency_s: float = 0.0


class LoadMeter:
    """Measures the load of one process."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begins; `now` tells the time in seconds (`time.monotonic`)."""
        self._now = now
        self._began = now()
        self._answered, self._seconds = 0, 0.0

    def add(self, seconds: float) -> None:
        """Counts a request that was answered, and how long that took."""
        self._answered += 1
        self._seconds += seconds

    def read(self) -> Load:
        """The load since the last reading, and begins anew.

        The number in flight follows from Little's law: arrivals per second times the time that each stays.
        """
        began, self._began = self._began, self._now()
        answered, seconds = self._answered, self._seconds
        self._answered, self._seconds = 0, 0.0
        elapsed = self._began - began
        return Load(seconds / elapsed, seconds / answered) if answered and elapsed > 0 else Load()


class Move(NamedTuple):
    """Connections, from the worker with the number `source` to that with the number `target`."""

    source: int
    target: int
    connections: int


def move(loads: Mapping[int, Load]) -> Move | None:
    """Half of what would make the slowest worker's clients wait as long as the quickest worker's.

    A busy worker's latency is what it has in flight over its speed. So connections leave it for one that has less
    to do, or whose core is faster at present; none does for a difference that it could not even out.

    Args:
        loads: of at least one worker, by its number.
    """
    source = max(loads, key=lambda number: loads[number].latency_s)
    target = min(loads, key=lambda number: loads[number].latency_s)
    slow, quick = loads[source], loads[target]
    if not slow.latency_s:
        return None
    excess = (slow.latency_s - quick.latency_s) / (slow.latency_s + quick.latency_s)
    connections = int(slow.in_flight / 2 * excess)
    return Move(source, target, connections) if connections else None
