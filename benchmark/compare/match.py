"""One comparison from the first start to the last round."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.compare.candidates import Candidate
from benchmark.harness.clients import Answer, Known, ask, checked_wrk
from benchmark.harness.results import Row
from benchmark.harness.server import CandidateServer, ServerFailed, spent_between
from benchmark.peers.environment import Environment, PeerMissing

IDLE_S = 3.0
_QUIET_PERCENT = 3.0  # of a core; a server that burns more while it idles is halted between its turns
_SAMPLE_S = 0.5
_SETTLE_S = 15.0


@dataclass(frozen=True)
class Load:
    """Load and rounds, the same for every candidate.

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


class Match:
    """The candidates' servers, all of them up, and what was measured; a context manager that ends them.

    Attributes:
        servers: by name.
        missing: candidates that did not start: `{name, reason}`.
        answers: by name, the lone answers to the images.
        idle_percent: CPU of each while it idles, in percent of a core.
        turns: by name, the turns in the order of the rounds.
        limits: images/s without HTTP, by setting, in the order of the rounds.
    """

    def __init__(
        self, candidates: Sequence[Candidate], images: Sequence[Path], say: Callable[[str], None] = print
    ) -> None:
        """Installs, starts, asks each for its lone answers, and watches them idle."""
        self._stack = ExitStack()
        self._images = images
        self._say = say
        self.servers: dict[str, CandidateServer] = {}
        self.missing: list[dict[str, str]] = []
        self.answers: dict[str, list[Answer]] = {}
        self.turns: dict[str, list[Row]] = {}
        self.limits: dict[str, list[float]] = {}
        try:
            for candidate in candidates:
                self._start(candidate)
            self.idle_percent = idle_cpu(self.servers, IDLE_S)
        except BaseException:
            self._stack.close()
            raise
        for name in self.servers:
            self._halt(name)

    def _start(self, candidate: Candidate) -> None:
        name = candidate.name
        try:
            if candidate.environment:
                Environment(candidate.environment).install()
            server = self._stack.enter_context(candidate.start(self._images[0]))
            self.answers[name] = [ask(server.url, image) for image in self._images]
        except (PeerMissing, ServerFailed, OSError, ValueError) as error:
            self.missing.append({"name": name, "reason": str(error)})
            self._say(f"{name}: missing: {error}")
            return
        self.servers[name] = server
        self.turns[name] = []
        self._say(f"{name}: up after {server.start_s:.1f} s")

    def play(self, rounds: int, load: Load, limits: Mapping[str, Callable[[float], float]] | None = None) -> None:
        """Runs one round that does not count, and those that do.

        Args:
            rounds: that count.
            load: of each turn.
            limits: what has turns like the candidates', by name: seconds -> images/s.
        """
        limits = limits or {}
        self.limits = {name: [] for name in limits}
        for number in range(rounds + 1):
            for name in rotated([*self.servers, *limits], number):
                if name in limits:
                    rate = limits[name](load.seconds)
                    self._say(f"round {number}: {name}: {rate:.1f} images/s")
                    self.limits[name].append(rate)
                else:
                    row = self._turn(name, load)
                    self._say(f"round {number}: {name}: {row['requests_per_s']:.1f}/s, p99 {row['p99']:.0f} ms")
                    self.turns[name].append(row)
            if number == 0:  # it warmed up
                self.limits = {name: [] for name in self.limits}
                self.turns = {name: [] for name in self.turns}

    def _turn(self, name: str, load: Load) -> Row:
        server = self.servers[name]
        server.tree.go_on()
        try:
            return turn(server, self.known(name), load)
        finally:
            self._halt(name)

    def known(self, name: str) -> list[Known]:
        """The images with the candidate's own lone answers."""
        pairs = zip(self._images, self.answers[name], strict=True)
        return [Known(image, answer[0].index, answer[0].score) for image, answer in pairs]

    def _halt(self, name: str) -> None:
        if self.idle_percent[name] > _QUIET_PERCENT:
            self.servers[name].tree.halt()

    def __enter__(self) -> Match:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()


def rotated(names: Sequence[str], number: int) -> list[str]:
    """Begins with another one each round, and every other round runs backwards, so that neighbours change too."""
    step = 1 if number % 2 == 0 else -1
    return [names[(number + step * place) % len(names)] for place in range(len(names))]


def turn(server: CandidateServer, known: Sequence[Known], load: Load) -> Row:
    """One server under load for some seconds.

    Returns:
        What wrk reports (times in milliseconds), `requests_per_s`, `cpu_ms_per_request` (of all its processes),
        `peak_rss_mb` during the load and `pss_mb` after it.
    """
    if load.warm_up_s:
        checked_wrk(server.url, known, load.connections, load.warm_up_s, load.tolerance)
        server.tree.settle(_SETTLE_S)
    before = server.tree.cpu_seconds()
    with _peak(lambda: server.tree.memory_mb("rss")) as peak:
        report = checked_wrk(server.url, known, load.connections, load.seconds, load.tolerance)
    spent = spent_between(before, server.tree.cpu_seconds())
    server.tree.settle(_SETTLE_S)
    good = report["requests"] - report["non_2xx"]
    return {
        **report,
        "requests_per_s": good / report["seconds"],
        "cpu_ms_per_request": spent * 1000 / max(1, good),
        "peak_rss_mb": peak[0],
        "pss_mb": server.tree.memory_mb("pss"),
    }


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


def idle_cpu(servers: Mapping[str, CandidateServer], seconds: float) -> dict[str, float]:
    """CPU that each server burns without requests, in percent of one core."""
    before = {name: server.tree.cpu_seconds() for name, server in servers.items()}
    time.sleep(seconds)
    return {
        name: round(100 * spent_between(before[name], server.tree.cpu_seconds()) / seconds, 2)
        for name, server in servers.items()
    }
