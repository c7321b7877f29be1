"""Images that make a model crash, hang or run out of memory, among good ones: `python -m benchmark poison`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import psutil

from benchmark.harness.poison import CRASH, HANG, MEMORY, image, write_poisoned
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ServerProcess

FAULTS = {"crash": CRASH, "hang": HANG, "memory": MEMORY}
_GOOD_PER_S = 10
_LIMIT_S = 60.0  # of a request
_CLIENTS = 8  # while processes are killed
_DRAIN_S = 60.0


@dataclass(frozen=True)
class Answer:
    """The response of one request and its time; `status` is 0 without a response."""

    status: int
    label: str
    began: float
    ended: float


def add_command(commands: Any) -> None:
    """Adds `poison` to the command line."""
    parser = add_parser(commands, "poison", __doc__, run)
    parser.add_argument("--runner", choices=("process", "thread"), action="append", help="default: process")
    parser.add_argument("--fault", choices=(*FAULTS, "kill"), action="append", help="default: all")
    parser.add_argument("--same", action="store_true", help="the same poison each time; default: always another")
    parser.add_argument("--model", help="that is killed; default: the poisoned one")
    parser.add_argument("--workers", default="1")
    add_option(parser, "seconds", 60, "of each poison; one a second among ten good images")
    add_option(parser, "kills", 20)
    add_option(parser, "engine-timeout-ms", 1000)


def run(options: argparse.Namespace) -> int:
    """Measures one server per runner and fault, prints the table, writes the JSON."""
    runners, faults = options.runner or ("process",), options.fault or (*FAULTS, "kill")
    with tempfile.TemporaryDirectory() as folder:
        poisoned = write_poisoned(Path(folder))
        rows = [
            {"runner": runner, "fault": fault, **_measure(options, poisoned, runner, fault)}
            for runner, fault in product(runners, faults)
        ]
    print_table("ten good images a second and one poison; kill: closed loop", rows)
    write_result("poison", options, rows=rows)
    return 0


def _measure(options: argparse.Namespace, poisoned: Path, runner: str, fault: str) -> Row:
    model = options.model if options.model and fault == "kill" else str(poisoned)
    words = ["--model", model, "--runner", runner, "--workers", options.workers]
    words += ["--engine-timeout-ms", str(options.engine_timeout_ms), "--engine-memory-mb", "2000"]
    with ServerProcess(*words) as server:
        if fault == "kill":
            row = asyncio.run(_kill(server, options.kills))
        else:
            row = asyncio.run(_poison(server, FAULTS[fault], options))
        began = time.monotonic()
        server.send(signal.SIGTERM)
        code, _ = server.end(_DRAIN_S)
        return {**row, "drain_s": time.monotonic() - began, "exit_code": code}


async def _ask(session: aiohttp.ClientSession, data: bytes) -> Answer:
    began, status, label = time.monotonic(), 0, ""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with session.post("/classify", data=data) as response:
            answer = await response.json()
            status = response.status
            label = answer["predictions"][0]["label"] if status == 200 else answer["type"].rpartition(":")[2]
    return Answer(status, label, began, time.monotonic())


def _session(server: ServerProcess) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(server.url, timeout=aiohttp.ClientTimeout(_LIMIT_S))


async def _poison(server: ServerProcess, fault: int, options: argparse.Namespace) -> Row:
    good, poison = [], []
    async with _session(server) as session:
        began = time.monotonic()
        for number in range(options.seconds * _GOOD_PER_S):
            await asyncio.sleep(began + number / _GOOD_PER_S - time.monotonic())
            good.append(asyncio.ensure_future(_ask(session, image(number))))
            if number % _GOOD_PER_S == 0:
                poison.append(asyncio.ensure_future(_ask(session, image(0 if options.same else number, fault))))
        answers, refusals = await asyncio.gather(*good), await asyncio.gather(*poison)
    return {**_summary(answers), "poison": _counts(refusals)}


def _summary(answers: Sequence[Answer]) -> Row:
    right = [each for each in answers if (each.status, each.label) == (200, "dark")]
    ends = sorted(each.ended for each in right)
    times = sorted(each.ended - each.began for each in right)
    return {
        "good_percent": 100 * len(right) / len(answers),
        "others": _counts(each for each in answers if each not in right),
        "median_ms": 1000 * median(times) if times else None,
        "longest_s": times[-1] if times else None,
        "longest_gap_s": max((b - a for a, b in pairwise(ends)), default=None),
    }


def _counts(answers: Any) -> str:
    counts = Counter(f"{each.status} {each.label}".strip() for each in answers)
    return ", ".join(f"{number} x {what}" for what, number in counts.items()) or "-"


async def _kill(server: ServerProcess, kills: int) -> Row:
    """Kills the process that works, again and again, while clients in a closed loop compare their answers."""
    back_s = []
    async with _session(server) as session:
        expected = await _ask(session, image(1))
        stop = asyncio.Event()
        answers: list[list[Answer]] = [[] for _ in range(_CLIENTS)]
        clients = [asyncio.ensure_future(_loop(session, stop, each)) for each in answers]
        for _ in range(kills):
            await asyncio.sleep(1.0)
            killed = time.monotonic()
            _working(server).kill()
            back_s.append(await _first_after(killed, answers) - killed)
        stop.set()
        await asyncio.gather(*clients)
    every = [each for mine in answers for each in mine]
    return {
        "requests": len(every),
        "lost": sum(each.status != 200 for each in every),
        "wrong": sum(each.status == 200 and each.label != expected.label for each in every),
        "back_median_s": median(back_s),
        "back_longest_s": max(back_s),
    }


async def _loop(session: aiohttp.ClientSession, stop: asyncio.Event, answers: list[Answer]) -> None:
    while not stop.is_set():
        answers.append(await _ask(session, image(1)))


async def _first_after(moment: float, answers: list[list[Answer]]) -> float:
    """When the first request that began after that moment was answered."""
    while True:
        after = [
            each.ended for mine in answers for each in mine[-20:] if each.began > moment and each.status == 200
        ]
        if after:
            return min(after)
        await asyncio.sleep(0.005)


def _working(server: ServerProcess) -> psutil.Process:
    """The process of an engine that has spent the most time since it lives: spares have run no batch."""
    below = psutil.Process(server.process.pid).children(recursive=True)
    ours = {each.pid for each in below if "runtime.processes.main" in each.cmdline()}
    engines = [each for each in below if each.pid in ours and each.ppid() in ours]
    return max(engines, key=lambda each: each.cpu_times().user)
