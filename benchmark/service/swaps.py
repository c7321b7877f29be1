"""Versions of a model that replace each other while clients ask: `python -m benchmark swaps`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np

from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ServerProcess
from benchmark.harness.store import DEMO, DIGITS, WORDS, write_words
from snapserve.management import ModelManagement

_LIMIT_S = 60.0  # of a request
_COMES_AND_GOES = 10  # every so many swaps
_TOLERANCE = 5e-3  # of a score: batches differ
_VERSIONS = {"1": tuple(map(str, range(10))), "2": WORDS}  # their labels

Scores = list[tuple[str, float]]  # labels and scores of an answer, the best first


@dataclass
class Seen:
    """What the clients saw: times in seconds, statuses other than 200 (0: none), answers that no version gives."""

    times_s: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    wrong: list[Scores] = field(default_factory=list)


class Swaps:
    """Swaps of the default version: there, back, and every tenth with a version that comes and goes.

    Attributes:
        default_s: times of a change of the default alone.
        add_s: times until a version that was added is the default.
    """

    def __init__(self, models: ModelManagement) -> None:
        self.default_s: list[float] = []
        self.add_s: list[float] = []
        self._models = models

    def __len__(self) -> int:
        return len(self.default_s) + len(self.add_s)

    def swap(self) -> None:
        """One more; returns when it is done. Raises ManagementError."""
        number = len(self) + 1
        began = time.monotonic()
        if number % _COMES_AND_GOES:
            self._models.set_default("digits", "2" if number % 2 else "1")
            self.default_s.append(time.monotonic() - began)
            return
        version = str(number)
        self._models.add("digits", version, "words", default=True)
        self.add_s.append(time.monotonic() - began)
        self._models.set_default("digits", "1")
        self._models.remove("digits", version)


def add_command(commands: Any) -> None:
    """Adds `swaps` to the command line."""
    parser = add_parser(commands, "swaps", __doc__, run)
    add_option(parser, "swaps", 50, "of the default version; every tenth adds a version and removes it again")
    add_option(parser, "rounds", 5, "of swaps, each beside as long a time without")
    add_option(parser, "pause-ms", 100.0, "between swaps")
    add_option(parser, "clients", 4, "in a closed loop")
    parser.add_argument("--workers", default="2")


def run(options: argparse.Namespace) -> int:
    """Measures in interleaved rounds, prints the tables, writes the JSON. 1 where an answer is wrong."""
    with _server(options.workers) as (server, models):
        swaps = Swaps(models)
        phases = asyncio.run(_measure(server.url, swaps, options))
    rows = [{"phase": name, **_summary(seen)} for name, seen in phases.items()]
    changes = {"default": swaps.default_s, "add and default": swaps.add_s}
    times = [{"change": name, "times": len(each), **_percentiles(each)} for name, each in changes.items()]
    print_table(f"{options.clients} clients; the same time with swaps and without", rows)
    print_table("time of a change, until all workers serve it", times)
    write_result("swaps", options, rows=rows, times=times)
    return 1 if any(row["non_200"] or row["of neither version"] for row in rows) else 0


@contextlib.contextmanager
def _server(workers: str) -> Iterator[tuple[ServerProcess, ModelManagement]]:
    """The demo as version 1, and as version 2 in words."""
    with tempfile.TemporaryDirectory() as folder:
        store, token = Path(folder, "store"), Path(folder, "token")
        store.mkdir()
        write_words(store / "words")
        token.touch(0o600)
        token.write_text(secrets.token_hex())
        words = ["--model", str(DEMO), "--workers", workers, "--model-store", str(store)]
        words += ["--management-port", "0", "--management-token-file", str(token)]
        with ServerProcess(*words) as server:
            url = urlsplit(server.line("models are managed on ").split()[4].rstrip(","))
            models = ModelManagement(str(url.hostname), url.port or 0, token.read_text())
            models.add("digits", "2", "words")
            yield server, models


async def _measure(url: str, swaps: Swaps, options: argparse.Namespace) -> dict[str, Seen]:
    phases, images = {"swaps": Seen(), "none": Seen()}, [each.read_bytes() for each in DIGITS]
    timeout = aiohttp.ClientTimeout(_LIMIT_S)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        known = {image: await _answers(session, image) for image in images}
        for part in np.array_split(range(options.swaps), options.rounds):
            async with _clients(session, known, phases["swaps"], options.clients):
                began = time.monotonic()
                for _ in part:
                    await asyncio.to_thread(swaps.swap)
                    await asyncio.sleep(options.pause_ms / 1000)
                lasted = time.monotonic() - began
            async with _clients(session, known, phases["none"], options.clients):
                await asyncio.sleep(lasted)
    return phases


async def _answers(session: aiohttp.ClientSession, image: bytes) -> list[Scores]:
    """What each version says of an image. Raises RuntimeError where those are not its labels."""
    answers = []
    for version, labels in _VERSIONS.items():
        async with session.post("/classify", params={"version": version}, data=image) as response:
            answers.append(_scores(await response.json()))
        if not {label for label, _ in answers[-1]} <= set(labels):
            raise RuntimeError(f"version {version} says {answers[-1]}")
    return answers


def _scores(answer: Any) -> Scores:
    return [(each["label"], each["score"]) for each in answer["predictions"]]


@contextlib.asynccontextmanager
async def _clients(
    session: aiohttp.ClientSession, known: dict[bytes, list[Scores]], seen: Seen, clients: int
) -> AsyncIterator[None]:
    """Clients that ask for one image after the other, each from another one on, while the context lasts."""
    stop, images = asyncio.Event(), list(known)
    asking = [
        asyncio.ensure_future(_ask_on(session, known, images[first:] + images[:first], seen, stop))
        for first in range(clients)
    ]
    yield
    stop.set()
    await asyncio.gather(*asking)


async def _ask_on(
    session: aiohttp.ClientSession,
    known: dict[bytes, list[Scores]],
    images: Sequence[bytes],
    seen: Seen,
    stop: asyncio.Event,
) -> None:
    for number in count():
        if stop.is_set():
            return
        image = images[number % len(images)]
        began = time.monotonic()
        try:
            async with session.post("/classify", data=image) as response:
                status, answer = response.status, await response.json()
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        seen.times_s.append(time.monotonic() - began)
        if status != 200:
            seen.refused.append(status)
        elif not any(alike(_scores(answer), each) for each in known[image]):
            seen.wrong.append(_scores(answer))


def alike(given: Scores, expected: Scores) -> bool:
    """Whether an answer has the same best label, no label of another version, and the same scores."""
    scores = dict(expected)
    return (
        given[:1] != []
        and given[0][0] == expected[0][0]
        and all(label in scores and abs(scores[label] - score) <= _TOLERANCE for label, score in given)
    )


def _summary(seen: Seen) -> Row:
    return {
        "requests": len(seen.times_s),
        "non_200": len(seen.refused),
        "of neither version": len(seen.wrong),
        **_percentiles(seen.times_s),
    }


def _percentiles(seconds: list[float]) -> Row:
    """Median, 99th percentile and longest time."""
    shown = {"p50_ms": 50, "p99_ms": 99, "max_ms": 100}
    return {name: float(np.percentile(seconds, at)) * 1000 if seconds else None for name, at in shown.items()}
