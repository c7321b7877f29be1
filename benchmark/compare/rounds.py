"""Rounds in which every contestant has its turn, in an order that rotates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmark.closed_loop import Known, checked_wrk
from benchmark.compare.process_tree import spent_between
from benchmark.compare.server import Server

_SAMPLE_S = 0.5
_PROBE_S = 0.25  # a server that uses less than half a core for so long is at rest
_SETTLE_S = 15.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Load:
    """What every contestant meets.

    Attributes:
        connections: each with one request at a time.
        seconds: of a turn.
        warm_up_s: seconds of the same load before a turn, which do not count; 0 for none.
        tolerance: by which the score of an answer may differ from the lone answer's.
    """

    connections: int
    seconds: int
    warm_up_s: int
    tolerance: float


def rotated(names: Sequence[str], number: int) -> list[str]:
    """Begins with another one each round, and every other round runs backwards, so that neighbours change too."""
    step = 1 if number % 2 == 0 else -1
    return [names[(number + step * place) % len(names)] for place in range(len(names))]


def turn(server: Server, known: Sequence[Known], load: Load) -> Row:
    """One contestant under load for some seconds.

    Returns:
        What wrk reports (times in milliseconds), `requests_per_s`, `cpu_ms_per_request` (of all its processes),
        `peak_rss_mb` during the load and `pss_mb` after it.
    """
    if load.warm_up_s:
        checked_wrk(server.url, known, load.connections, load.warm_up_s, load.tolerance)
        settle(server)
    before = server.tree.cpu_seconds()
    with _peak(server.tree.rss_mb) as peak:
        report = checked_wrk(server.url, known, load.connections, load.seconds, load.tolerance)
    spent = spent_between(before, server.tree.cpu_seconds())
    settle(server)
    good = report["requests"] - report["non_2xx"]
    return {
        **report,
        "requests_per_s": good / report["seconds"],
        "cpu_ms_per_request": spent * 1000 / max(1, good),
        "peak_rss_mb": peak[0],
        "pss_mb": server.tree.pss_mb(),
    }


def settle(server: Server) -> None:
    """Waits until a server has ended the work that it goes on with for clients who have left."""
    ends_at = time.monotonic() + _SETTLE_S
    busy = True
    while busy and time.monotonic() < ends_at:
        before = server.tree.cpu_seconds()
        time.sleep(_PROBE_S)
        busy = spent_between(before, server.tree.cpu_seconds()) > _PROBE_S / 2


@contextmanager
def _peak(read: Callable[[], float]) -> Iterator[list[float]]:
    """Reads a value again and again beside the body; the only item of the list is the highest."""
    highest, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            highest[0] = max(highest[0], read())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield highest
    finally:
        done.set()
        thread.join()
        highest[0] = max(highest[0], read())


def idle_cpu(servers: Mapping[str, Server], seconds: float) -> dict[str, float]:
    """CPU that each server burns while nobody asks it anything, in percent of one core."""
    before = {name: server.tree.cpu_seconds() for name, server in servers.items()}
    time.sleep(seconds)
    return {
        name: round(100 * spent_between(before[name], server.tree.cpu_seconds()) / seconds, 2)
        for name, server in servers.items()
    }
