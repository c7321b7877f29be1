"""More models than there is room for, loaded by the requests that name them: `python -m benchmark guests`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np

from benchmark.harness.clients import scrape, total
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ProcessTree
from benchmark.harness.serving import TorchServingServer, body_of, serve_path, values_of
from benchmark.harness.store import Sum, write_program
from runtime.memory import processes_bytes

RUNNERS = ("thread", "process")
GOAL_OVER = 1.1  # times the budget
_LIMIT_S = 300.0  # of a request
_SAMPLE_S = 0.1
_MB = 1_000_000
_FIRST_NAMES = 100  # what they take is not what the others add
_LENGTH = 10  # of a request's tensor


class Request(NamedTuple):
    """One request: number of the model, and the number that its tensor is full of."""

    model: int
    value: float


def add_command(commands: Any) -> None:
    """Adds `guests` to the command line."""
    parser = add_parser(commands, "guests", __doc__, run)
    parser.add_argument("--runner", choices=RUNNERS, action="append", help="default: both")
    add_option(parser, "models", 10, "that differ in what they add")
    add_option(parser, "room", 3, "--max-models of the first row; the second has --model-memory-mb instead")
    add_option(parser, "weights-mb", 20.0, "of each model")
    add_option(parser, "budget-mb", 0, "of the second row; 0: what the first row took at most")
    add_option(parser, "requests", 5000, "in random order")
    add_option(parser, "clients", 16, "in a closed loop")
    add_option(parser, "names", 10_000, "of models that do not exist, asked for afterwards")


def run(options: argparse.Namespace) -> int:
    """Measures one server per runner and limit, prints the tables, writes the JSON. 1 where a goal is missed."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.models):
            write_program(Sum(float(number), options.weights_mb), Path(folder, file_name(number)))
        rows = [row for each in options.runner or RUNNERS for row in _rows(Path(folder), each, options)]
    print_table(f"{options.models} models, {options.requests} requests of {options.clients} clients", rows)
    write_result("guests", options, rows=rows)
    return 0 if all(_is_good(row, options) for row in rows) else 1


def _is_good(row: Row, options: argparse.Namespace) -> bool:
    return (
        row["wrong"] == row["names not 400"] == 0
        and (row["peak of budget"] or 0.0) <= GOAL_OVER
        and (row["peak of budget"] is not None or row["loads"] == row["evictions"] + options.room)
    )


def file_name(number: int) -> str:
    """Of the model that adds this number."""
    return f"plus-{number}.pt"


def _rows(store: Path, runner: str, options: argparse.Namespace) -> Iterator[Row]:
    """First with room for so many models, then with so much memory."""
    by_number = _measure(store, runner, ("--max-models", str(options.room)), options)
    budget_mb = options.budget_mb or math.ceil(by_number["peak_mb"])
    limit = "--max-models", "0", "--model-memory-mb", str(budget_mb)
    by_memory = _measure(store, runner, limit, options)
    yield {"runner": runner, "limit": f"{options.room} models", **by_number, "peak of budget": None}
    share = by_memory["peak_mb"] / budget_mb
    yield {"runner": runner, "limit": f"{budget_mb} MB", **by_memory, "peak of budget": share}


def _measure(store: Path, runner: str, limit: Sequence[str], options: argparse.Namespace) -> Row:
    words = (
        "--workers",
        "1",
        "--runner",
        runner,
        "--engine-spares",
        "0",
    )  # a spare process takes of the budget, too
    with TorchServingServer(store, *words, *limit) as server:
        return asyncio.run(_ask_all(server, options))


async def _ask_all(server: TorchServingServer, options: argparse.Namespace) -> Row:
    before = await asyncio.to_thread(_counts, server)
    resident_mb = await asyncio.to_thread(_resident_mb, server.url)
    order = random.Random(0)
    requests = [Request(order.randrange(options.models), float(each)) for each in range(options.requests)]
    timeout = aiohttp.ClientTimeout(_LIMIT_S)
    async with aiohttp.ClientSession(server.api, timeout=timeout) as session, _sampled(server) as memory_mb:
        began = time.monotonic()
        wrong = await _in_parallel(options.clients, session, iter(requests))
        seconds = time.monotonic() - began
        after = await asyncio.to_thread(_counts, server)
        peak_mb = max(memory_mb)
        others = await _ask_unknown(session, range(_FIRST_NAMES))
        settled_mb = await asyncio.to_thread(_memory_mb, server)
        others += await _ask_unknown(session, range(_FIRST_NAMES, options.names))
    loads, evictions = (now - then for now, then in zip(after, before, strict=True))
    return {
        "requests": len(requests),
        "wrong": wrong,
        "loads": loads,
        "evictions": evictions,
        "loaded at the end": loads - evictions,
        "requests_per_s": len(requests) / seconds,
        "resident_mb": resident_mb,
        "peak_mb": resident_mb + peak_mb - memory_mb[0],
        "names not 400": others,
        "more_mb after names": await asyncio.to_thread(_memory_mb, server) - settled_mb,
    }


def _counts(server: TorchServingServer) -> tuple[int, int]:
    """Loads and evictions."""
    samples = scrape(server.url)
    names = "snapserve_model_loads_total", "snapserve_model_evictions_total"
    loads, evictions = (int(total(samples, name)) for name in names)
    return loads, evictions


def _resident_mb(url: str) -> float:
    """What the models of the start take of the budget, as it was measured."""
    with urllib.request.urlopen(f"{url}/models") as response:
        models = json.load(response)["models"]
    return sum(int(version["memory_bytes"]) for each in models for version in each["versions"]) / _MB


def _memory_mb(server: TorchServingServer) -> float:
    """Of all its processes; a page that several share counts once."""
    pids = [each.pid for each in ProcessTree(server.process.pid).processes()]
    return processes_bytes(pids) / _MB


@contextlib.asynccontextmanager
async def _sampled(server: TorchServingServer) -> AsyncIterator[list[float]]:
    """Memory of the service, again and again while the context lasts; the first sample is there at once."""
    samples = [await asyncio.to_thread(_memory_mb, server)]

    async def sample() -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            samples.append(await asyncio.to_thread(_memory_mb, server))

    sampling = asyncio.ensure_future(sample())
    yield samples
    sampling.cancel()


async def _in_parallel(clients: int, session: aiohttp.ClientSession, requests: Iterator[Request]) -> int:
    """Asks in a closed loop; returns how many answers are not those of their models."""
    right = await asyncio.gather(*(_ask_on(session, requests) for _ in range(clients)))
    return sum(each.count(False) for each in right)


async def _ask_on(session: aiohttp.ClientSession, requests: Iterator[Request]) -> list[bool]:
    return [await is_right(session, request) for request in requests]


async def is_right(session: aiohttp.ClientSession, request: Request) -> bool:
    """Asks; whether the answer is that of the model."""
    body = body_of(np.full(_LENGTH, request.value, np.float32))
    async with session.post(serve_path(file_name(request.model)), data=body) as response:
        answer = await response.read()
    return response.status == 200 and values_of(answer) == [request.value + request.model] * _LENGTH


async def _ask_unknown(session: aiohttp.ClientSession, names: Iterable[int]) -> int:
    """Asks for models that do not exist; returns how many answers are not 400."""
    others = 0
    for number in names:
        async with session.post(serve_path(f"none-{number}.pt"), data=b"[]") as response:
            others += response.status != 400
    return others
