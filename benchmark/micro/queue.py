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

from batching import Batcher, BatchPolicy
from benchmark.harness.results import add_option, add_parser, print_table, write_result

Submit = Callable[[int], Coroutine[Any, Any, Any]]


def add_command(commands: Any) -> None:
    """Adds `queue` to the command line."""
    parser = add_parser(commands, "queue", __doc__, run)
    add_option(parser, "items", 50_000, "in a round")
    add_option(parser, "clients", 64, "at once")
    add_option(parser, "rounds", 7)


def run(options: argparse.Namespace) -> int:
    """Measures both in turn, prints the medians of CPU time per item, writes the JSON."""
    queues = {"OrderedDict (Batcher)": _with_batcher, "asyncio.Queue, consumer task": _with_queue}
    microseconds: dict[str, list[float]] = {name: [] for name in queues}
    for _ in range(options.rounds):
        for name, drive in queues.items():
            seconds = uvloop.run(drive(options.items, options.clients))
            microseconds[name].append(round(seconds / options.items * 1e6, 1))
    rows = [
        {"queue": name, "µs of CPU per item": f"{median(values):.1f}", "rounds": " ".join(map(str, values))}
        for name, values in microseconds.items()
    ]
    print_table(f"{options.clients} clients, an engine that does nothing", rows)
    write_result("queue", options, microseconds=microseconds)
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
