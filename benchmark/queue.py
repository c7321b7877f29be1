"""What the queue costs per item, beside an `asyncio.Queue` with a consumer task: `python -m benchmark queue`."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from batching import Batcher, BatchPolicy

Submit = Callable[[int], Coroutine[Any, Any, Any]]


def add_command(commands: Any) -> None:
    """Adds `queue` to the command line."""
    parser = commands.add_parser("queue", help=__doc__)
    parser.add_argument("--items", type=int, default=50_000, help="in a round; default: %(default)s")
    parser.add_argument("--clients", type=int, default=64, help="at once; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures both in turn and prints the medians of CPU time per item."""
    contestants = {"OrderedDict (Batcher)": _with_batcher, "asyncio.Queue, consumer task": _with_queue}
    microseconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, contestant in contestants.items():
            seconds = uvloop.run(contestant(options.items, options.clients))
            microseconds[name].append(seconds / options.items * 1e6)
    table = Table(
        "queue", "µs of CPU per item", "rounds", title=f"{options.clients} clients, an engine that does nothing"
    )
    for name, values in microseconds.items():
        table.add_row(name, f"{median(values):.1f}", " ".join(f"{value:.1f}" for value in values))
    Console(width=120).print(table)
    return 0


def _identity(items: Sequence[int]) -> Sequence[int]:
    return items


async def _with_batcher(items: int, clients: int) -> float:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:

        async def run(batch: Sequence[int]) -> Sequence[int]:
            return await loop.run_in_executor(executor, _identity, batch)

        return await _drive(Batcher(run, BatchPolicy(32, 0)).submit, items, clients)


async def _with_queue(items: int, clients: int) -> float:
    """The usual shape: while-busy too, no deadlines, no cancellation, no errors."""
    queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue(1024)
    loop = asyncio.get_running_loop()

    async def submit(item: int) -> int:
        future: asyncio.Future[int] = loop.create_future()
        await queue.put((item, future))
        return await future

    async def consume(executor: ThreadPoolExecutor) -> None:
        while True:
            batch = [await queue.get()]
            while len(batch) < 32 and not queue.empty():
                batch.append(queue.get_nowait())
            results = await loop.run_in_executor(executor, _identity, [item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)

    with ThreadPoolExecutor(1) as executor:
        consumer = asyncio.ensure_future(consume(executor))
        seconds = await _drive(submit, items, clients)
        consumer.cancel()
        return seconds


async def _drive(submit: Submit, items: int, clients: int) -> float:
    async def client() -> None:
        for item in range(items // clients):
            await submit(item)

    began = time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.process_time() - began
