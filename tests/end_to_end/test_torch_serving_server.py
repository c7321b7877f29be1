"""torch-serving's API on two workers: models that are loaded by requests, and workers that are killed."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest

from benchmark.harness.clients import scrape, total
from benchmark.harness.server import ProcessTree
from benchmark.harness.serving import TorchServingServer, serve_path
from benchmark.harness.store import Sum, write_program
from benchmark.service.guests import Request, file_name, is_right
from tests.end_to_end.workers import workers_of

MODELS, ROOM, WORKERS = 5, 3, 2
REQUESTS, CLIENTS = 200, 16
NAMES, MORE_MB = 500, 4
LOADS, EVICTIONS = "snapserve_model_loads_total", "snapserve_model_evictions_total"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    for number in range(MODELS):
        write_program(Sum(float(number)), folder / file_name(number))
    words = "--workers", str(WORKERS), "--max-models", str(ROOM), "--runner", "thread"
    with TorchServingServer(folder, *words) as running:
        yield running


def session(server, **options):
    return aiohttp.ClientSession(server.api, timeout=aiohttp.ClientTimeout(60), **options)


def count(server, name):
    return total(scrape(server.url), name)


async def ask_in_parallel(server, requests, clients=CLIENTS):
    """The outcome of each request: whether the answer was right, or the error of its connection."""
    waiting, outcomes = iter(requests), []

    async def ask(one):
        for request in waiting:
            try:
                outcomes.append(await is_right(one, request))
            except aiohttp.ClientError as error:
                outcomes.append(error)

    async with session(server, connector=aiohttp.TCPConnector(limit=0)) as one:
        await asyncio.gather(*(ask(one) for _ in range(clients)))
    return outcomes


def test_100_first_requests_of_a_model_load_it_once_per_worker(server):
    before = count(server, LOADS)
    outcomes = asyncio.run(ask_in_parallel(server, [Request(0, float(n)) for n in range(100)], clients=100))
    assert outcomes == [True] * 100
    assert count(server, LOADS) - before == WORKERS


def test_more_models_than_room_in_random_order_are_answered_right(server):
    order = random.Random(0)
    loads, evictions = count(server, LOADS), count(server, EVICTIONS)
    loaded = loads - evictions
    requests = [Request(order.randrange(MODELS), float(n)) for n in range(REQUESTS)]
    assert asyncio.run(ask_in_parallel(server, requests)) == [True] * REQUESTS
    loads, evictions = count(server, LOADS) - loads, count(server, EVICTIONS) - evictions
    assert evictions > 0
    assert loaded + loads - evictions == WORKERS * (ROOM + 1), "the demo is loaded beside"


def test_names_of_models_that_do_not_exist_are_refused_and_leave_nothing(server):
    async def ask(names):
        async with session(server) as one:
            return {await status(one, name) for name in names}

    async def status(one, name):
        async with one.post(serve_path(name), data=b"[]") as response:
            return response.status

    tree = ProcessTree(server.process.pid)  # its rss: other processes change the pss
    assert asyncio.run(ask(f"first-{n}.pt" for n in range(50))) == {400}
    before = tree.memory_mb("rss")
    assert asyncio.run(ask(f"none-{n}.pt" for n in range(NAMES))) == {400}
    assert tree.memory_mb("rss") - before < MORE_MB


def test_a_worker_that_is_killed_loses_only_its_requests(server):
    def with_a_kill_in_between():
        order = random.Random(1)
        for number in range(REQUESTS):
            if number == REQUESTS // 2:
                workers_of(server)[0].kill()
            yield Request(order.randrange(ROOM), float(number))

    outcomes = asyncio.run(ask_in_parallel(server, with_a_kill_in_between()))
    lost = [each for each in outcomes if each is not True]
    assert all(isinstance(each, aiohttp.ClientError) for each in lost), "no answer was wrong or refused"
    assert len(lost) <= CLIENTS, "each client had one request that the worker could lose"
    assert asyncio.run(ask_in_parallel(server, [Request(1, 1.0)])) == [True]
