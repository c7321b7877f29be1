"""How much each worker has to do, and which of its clients had better be another's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

# Two clients have not quite two requests in flight; one of them is to move to an idle worker. A lone one stays.
_ROUND_UP = 0.25
# Times the quick worker's latency. Cores of virtual machines differ by less for seconds; moves would be too late.
_SLOW = 1.5


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
        self._in_flight = 0
        self._last = now()
        self._restart()

    def begin(self) -> float:
        """A request has been read. Returns the time, for `end`."""
        self._change(1)
        return self._last

    def end(self, began: float, answered: bool) -> None:
        """It was answered, or came to nothing."""
        self._change(-1)
        if answered:
            self._answered += 1
            self._seconds += self._last - began

    def read(self) -> Load | None:
        """The load since the last reading, and begins anew.

        Returns:
            None when there were requests and no answer, so that nobody can say how long one takes.
        """
        self._change(0)
        elapsed = self._last - self._began
        in_flight = self._waited / elapsed if elapsed > 0 else 0.0
        answered, seconds = self._answered, self._seconds
        self._restart()
        if not answered:
            return None if in_flight else Load()
        return Load(in_flight, seconds / answered)

    def _restart(self) -> None:
        self._began, self._waited = self._last, 0.0
        self._answered, self._seconds = 0, 0.0

    def _change(self, requests: int) -> None:
        now = self._now()
        self._waited += self._in_flight * (now - self._last)
        self._last = now
        self._in_flight += requests


class Move(NamedTuple):
    """Connections, from the worker with the number `source` to that with the number `target`."""

    source: int
    target: int
    connections: int


def move(loads: Mapping[int, Load]) -> Move:
    """What the slowest worker is to give to the quickest; 0 connections where that would mend nothing.

    A busy worker's latency is what it has in flight over its speed. If both have as many in flight, half of what
    would make them alike moves; if the quick one is idle, all of it.

    Args:
        loads: of at least one worker, by its number.
    """
    source = max(loads, key=lambda number: loads[number].latency_s)
    target = min(loads, key=lambda number: loads[number].latency_s)
    slow, quick = loads[source], loads[target]
    if slow.latency_s <= _SLOW * quick.latency_s:
        return Move(source, target, 0)
    excess = (slow.latency_s - quick.latency_s) / (slow.latency_s + quick.latency_s)
    return Move(source, target, int(slow.in_flight / 2 * excess + _ROUND_UP))
