"""What one process of the generator is to do: questions, their answers, and when they are due."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from benchmark.harness.clients import FORM_TYPE, form

MAX_CONNECTIONS = 4096

Predictions = Sequence[Mapping[str, Any]]
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """How an answer is compared.

    Attributes:
        labels: of the model, by index.
        top_k: predictions that an answer has.
        tolerance: the most by which a score may differ.
        gap: two labels whose known scores differ by more have to come in that order.
    """

    labels: tuple[str, ...]
    top_k: int = 5
    tolerance: float = 5e-3
    gap: float = 1e-2


@dataclass(frozen=True)
class Question:
    """An image and its known scores, one per class."""

    name: str
    image: bytes
    scores: tuple[float, ...]

    @cached_property
    def ranked(self) -> list[int]:
        """Classes, best first."""
        return sorted(range(len(self.scores)), key=lambda index: -self.scores[index])

    def predictions(self, rules: Rules) -> list[dict[str, Any]]:
        """The exact answer."""
        return [
            {"label": rules.labels[index], "score": self.scores[index], "index": index}
            for index in self.ranked[: rules.top_k]
        ]

    def fault(self, predictions: Predictions, rules: Rules) -> str:
        """What is wrong with `predictions`, or ""."""
        scores = self.scores
        given: list[int] = []
        for place, each in enumerate(predictions):
            index, score = each["index"], each["score"]
            if rules.labels[index] != each["label"]:
                return f"label {each['label']!r} at index {index}, which is {rules.labels[index]!r}"
            if not abs(score - scores[index]) <= rules.tolerance:
                return f"{each['label']!r} scores {score:.4f}, known is {scores[index]:.4f}"
            if place and (
                score > predictions[place - 1]["score"] or scores[index] - scores[given[-1]] > rules.gap
            ):
                return f"{each['label']!r} comes after {rules.labels[given[-1]]!r}"
            given.append(index)
        if len(set(given)) != min(rules.top_k, len(scores)):
            return f"{len(set(given))} different labels"
        missing = next((index for index in self.ranked if index not in given), None)
        if missing is not None and scores[missing] > scores[given[-1]] + rules.gap:
            return f"{rules.labels[missing]!r} is missing, which scores {scores[missing]:.4f}"
        return ""

    def fault_of_body(self, body: bytes, request_id: str, rules: Rules) -> str:
        """What is wrong with the JSON that was answered to the request of that id, or ""."""
        try:
            document = json.loads(body)
            if document["request_id"] != request_id:
                return f"the body's request_id is {document['request_id']!r}, not {request_id!r}"
            return self.fault(document["predictions"], rules)
        except (ValueError, LookupError, TypeError) as error:
            return f"not an answer ({type(error).__name__}): {body[:100]!r}"


def poisson(rate: float, seed: int, *, seconds: float = math.inf, requests: int | None = None) -> Times:
    """Arrival times with exponential gaps, as many independent clients make them; the same for the same seed.

    Args:
        rate: arrivals per second, on average.
        seed: of the random numbers.
        seconds: no arrival is later than this.
        requests: exactly that many arrivals, whatever time they take; `seconds` then does not count.

    Returns:
        float64 [N], seconds since the start, ascending.
    """
    gaps = np.random.default_rng(seed)
    if requests is not None:
        return np.cumsum(gaps.exponential(1 / rate, requests))
    expected = rate * seconds
    enough = int(expected + 10 * math.sqrt(expected) + 20)  # ten standard deviations more than expected
    times = np.cumsum(gaps.exponential(1 / rate, enough))
    return times[times < seconds]


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        url: of the server.
        questions: images that are sent, chosen at random.
        rules: how answers are compared.
        due_s: open loop: when each request is due, in seconds since the start; None: closed loop.
        seconds: closed loop: how long new requests are begun.
        connections: most at once; closed loop: always as many.
        warm_up_s: requests of the first seconds are verified, but their times do not count.
        timeout_s: until an answer is given up.
        seed: of the choice of images.
        name: beginning of the request ids.
        request_timeout_ms: the X-Request-Timeout-Ms of each request; None: without.
        retry: whether a refused client comes back once, and when: "" never, "obey" after its Retry-After, else a
            number of seconds.
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
    request_timeout_ms: int | None = None
    retry: str = ""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
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
        """A multipart form per image."""
        return [form(question.image) for question in self.questions]

    def head(self, length: int) -> str:
        """A request's head but for the end of its last line, the request id."""
        host, port = self.address
        timeout = f"X-Request-Timeout-Ms: {self.request_timeout_ms}\r\n" if self.request_timeout_ms else ""
        return (
            f"POST /classify?top_k={self.rules.top_k} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"{timeout}Content-Type: {FORM_TYPE}\r\nContent-Length: {length}\r\nX-Request-ID: "
        )

    def choices(self, count: int, block: int = 0) -> list[int]:
        """Which images are sent: indices of `questions`, the same for the same seed."""
        chosen = np.random.default_rng((self.seed, block)).integers(0, len(self.questions), count)
        return [int(each) for each in chosen]
