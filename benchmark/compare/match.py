"""One comparison from the first start to the last round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmark.closed_loop import Known
from benchmark.compare.answer import Answer, ask
from benchmark.compare.contestant import Contestant
from benchmark.compare.rounds import Load, Row, idle_cpu, rotated, turn
from benchmark.compare.server import Server, ServerFailed
from benchmark.peers.environment import Environment, PeerMissing

IDLE_S = 3.0
_QUIET_PERCENT = 3.0  # of a core; a server that burns more while it idles is halted between its turns

Say = Callable[[str], None]
Measure = Callable[[float], float]  # seconds -> images/s


class Match:
    """The servers that take part, all of them up, and what was measured.

    A context manager that ends them.

    Attributes:
        servers: by name.
        missing: who could not take part: `{name, reason}`.
        answers: by name, the lone answers to the pictures.
        idle_percent: CPU of each while it idles, in percent of a core.
        turns: by name, the turns in the order of the rounds.
        limits: images/s without HTTP, by setting, in the order of the rounds.
    """

    def __init__(self, contestants: Sequence[Contestant], pictures: Sequence[Path], say: Say = print) -> None:
        """Installs, starts, asks each for its lone answers, and watches them idle."""
        self._stack = ExitStack()
        self._pictures = pictures
        self._say = say
        self.servers: dict[str, Server] = {}
        self.missing: list[dict[str, str]] = []
        self.answers: dict[str, list[Answer]] = {}
        self.turns: dict[str, list[Row]] = {}
        self.limits: dict[str, list[float]] = {}
        try:
            for contestant in contestants:
                self._start(contestant)
            self.idle_percent = idle_cpu(self.servers, IDLE_S)
        except BaseException:
            self._stack.close()
            raise
        for name in self.servers:
            self._halt(name)

    def _start(self, contestant: Contestant) -> None:
        name = contestant.name
        try:
            if contestant.environment:
                Environment(contestant.environment).install()
            server = self._stack.enter_context(Server(contestant, self._pictures[0]))
            self.answers[name] = [ask(server.url, picture) for picture in self._pictures]
        except (PeerMissing, ServerFailed, OSError, ValueError) as error:
            self._drop(name, str(error))
            return
        self.servers[name] = server
        self.turns[name] = []
        self._say(f"{name}: up after {server.start_s:.1f} s")

    def _drop(self, name: str, reason: str) -> None:
        self.missing.append({"name": name, "reason": reason})
        self._say(f"{name}: missing: {reason}")

    def play(self, rounds: int, load: Load, limits: Mapping[str, Measure] | None = None) -> None:
        """Runs one round that does not count, and those that do.

        Args:
            rounds: that count.
            load: of each turn.
            limits: what has turns like the contestants', by name.
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
        """The pictures with the contestant's own lone answers."""
        pairs = zip(self._pictures, self.answers[name], strict=True)
        return [Known(picture, answer[0].index, answer[0].score) for picture, answer in pairs]

    def _halt(self, name: str) -> None:
        if self.idle_percent[name] > _QUIET_PERCENT:
            self.servers[name].tree.halt()

    def __enter__(self) -> Match:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
