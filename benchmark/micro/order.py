"""In which order a queue is served under overload, by simulation: `python -m benchmark order`."""

from __future__ import annotations

import argparse
import itertools
from collections import deque
from statistics import median
from typing import Any

import numpy as np

from batching.batch_time import BatchTime
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result

_FULL = 8  # items in a batch
_BATCH_S, _ITEM_S = 0.004, 0.004  # of a batch by itself, and of each item
_FULL_S = _BATCH_S + _FULL * _ITEM_S
_TARGET_S = 6 * _FULL_S
_MARGIN = 0.8
_CODEL_S = 0.05 * _TARGET_S  # RFC 8289: standing queue of 5 % of the interval
_ORDERS = ("fifo", "fifo, late dropped", "fifo, late with two batches to spare dropped", "newest first", "codel")


def add_command(commands: Any) -> None:
    """Adds `order` to the command line."""
    parser = add_parser(commands, "order", __doc__, run)
    add_option(parser, "seconds", 60.0, "of simulated time")
    add_option(parser, "times", 3.0, "the capacity that is offered")
    add_option(parser, "rounds", 5)


def run(options: argparse.Namespace) -> int:
    """Simulates, prints the table, writes the JSON."""
    rows = [
        _row(order, has_forecast, slow, options)
        for slow, has_forecast, order in itertools.product((1.0, 3.0), (False, True), _ORDERS)
    ]
    print_table(f"good: answered within the target of {_TARGET_S * 1000:.0f} ms, as a part of the capacity", rows)
    write_result("order", options, rows=rows)
    return 0


def _row(order: str, has_forecast: bool, slow: float, options: argparse.Namespace) -> Row:
    capacity = _FULL / _FULL_S * (1 + 1 / slow) / 2
    results = [
        Queue(order, has_forecast, slow).run(_arrivals(options.times * capacity, options.seconds, seed))
        for seed in range(options.rounds)
    ]
    return {
        "engine": "steady" if slow == 1 else f"{slow:g} times slower in every other second",
        "admission": "forecast" if has_forecast else "all",
        "order": order,
        "good": round(median(good for good, _ in results) / (capacity * options.seconds), 3),
        "answered late": round(median(late for _, late in results) / (capacity * options.seconds), 3),
    }


def _arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    return [float(each) for each in np.cumsum(gaps)]


class Queue:
    """One engine behind one queue, in simulated time."""

    def __init__(self, order: str, has_forecast: bool, slow: float) -> None:
        """Creates it; slow: how many times longer a batch takes in every other second."""
        self._order, self._has_forecast, self._slow = order, has_forecast, slow
        self._queue: deque[float] = deque()  # arrival times
        self._times, self._free_at = BatchTime(), 0.0
        self._above_since: float | None = None  # CoDel: since when the oldest item waits too long

    def run(self, arrivals: list[float]) -> tuple[int, int]:
        """Serves the arrivals. Returns the items answered within the target, and later."""
        good = late = 0
        for now in arrivals:
            while self._queue and self._free_at <= now:
                batch = self._take(self._free_at)
                self._free_at += self._serve(len(batch))
                good += sum(self._free_at - each <= _TARGET_S for each in batch)
                late += sum(self._free_at - each > _TARGET_S for each in batch)
            if not self._has_forecast or self._forecast_s(now) <= _MARGIN * _TARGET_S:
                self._queue.append(now)
            self._free_at = max(self._free_at, now)
        return good, late

    def _forecast_s(self, now: float) -> float:
        full, rest = divmod(len(self._queue), _FULL)
        return max(0.0, self._free_at - now) + full * self._times.of(_FULL) + self._times.of(rest + 1)

    def _serve(self, size: int) -> float:
        if not size:
            return 0.0
        seconds = (_BATCH_S + _ITEM_S * size) * (self._slow if int(self._free_at) % 2 else 1.0)
        self._times.add(size, seconds)
        return seconds

    def _take(self, now: float) -> list[float]:
        batch: list[float] = []
        while self._queue and len(batch) < _FULL:
            arrived = self._queue.pop() if self._order == "newest first" else self._queue.popleft()
            if not self._is_dropped(arrived, now):
                batch.append(arrived)
        return batch

    def _is_dropped(self, arrived: float, now: float) -> bool:
        if self._order == "fifo":
            return False
        if self._order == "codel" and now - arrived > _CODEL_S:
            self._above_since = now if self._above_since is None else self._above_since
            return now - self._above_since > _TARGET_S
        self._above_since = None
        batches = 2 if "spare" in self._order else 1
        return now + batches * self._times.of(_FULL) > arrived + _TARGET_S
