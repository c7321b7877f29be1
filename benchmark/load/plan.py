"""What one process of the generator is to do, as it is handed over to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from benchmark.load.arrivals import Times
from benchmark.load.known import Question, Rules

MAX_CONNECTIONS = 4096
_BOUNDARY = "----SnapServeLoad"


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        url: of the server.
        questions: pictures that are sent, chosen at random.
        rules: how answers are compared.
        due_s: open loop: when each request is due, in seconds since the start; None: closed loop.
        seconds: closed loop: how long new requests are begun.
        connections: most at once; closed loop: always as many.
        warm_up_s: requests of the first seconds are verified, but their times do not count.
        timeout_s: until an answer is given up.
        seed: of the choice of pictures.
        name: beginning of the request ids.
    """

    url: str
    questions: tuple[Question, ...]
    rules: Rules
    due_s: Times | None = None
    seconds: float = 0.0
    connections: int = MAX_CONNECTIONS
    warm_up_s: float = 1.0
    timeout_s: float = 30.0
    seed: int = 0
    name: str = "load"

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def share(self, number: int, processes: int) -> Plan:
        """The part of one of several processes; together they make the same arrivals as one would."""
        return dataclasses.replace(
            self,
            due_s=None if self.due_s is None else self.due_s[number::processes],
            connections=max(1, self.connections // processes),
            seed=self.seed * 1000 + number,
            name=f"{self.name}-{number}",
        )

    def bodies(self) -> list[bytes]:
        """A multipart form per picture."""
        begin = (
            f"--{_BOUNDARY}\r\n"
            'Content-Disposition: form-data; name="image"; filename="picture"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        return [begin + question.picture + f"\r\n--{_BOUNDARY}--\r\n".encode() for question in self.questions]

    def head(self, length: int) -> str:
        """A request's head but for the end of its last line, the request id."""
        host, port = self.address
        return (
            f"POST /classify?top_k={self.rules.top_k} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\nContent-Length: {length}\r\n"
            "X-Request-ID: "
        )

    def choices(self, count: int, block: int = 0) -> list[int]:
        """Which pictures are sent: indices of `questions`, the same for the same seed."""
        chosen = np.random.default_rng((self.seed, block)).integers(0, len(self.questions), count)
        return [int(each) for each in chosen]
