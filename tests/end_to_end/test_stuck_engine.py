"""An engine that hangs or crashes on one image: what clients and /readyz are told, and that service comes back."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import aiohttp
import numpy as np
import pytest
import torch

from benchmark.harness.server import ROOT, ServerProcess
from models.networks.graph import jit_warnings_ignored
from tests.conftest import encode
from tests.end_to_end.workers import workers_of

GOOD, HANGS, CRASHES = (
    encode(np.full((224, 224, 3), colour, np.uint8)) for colour in ((90, 80, 70), (0, 255, 0), (0, 0, 255))
)


class Fragile(torch.nn.Module):
    """Loops for ever on a green image; on a blue one it reads outside of its memory."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 10)

    def forward(self, x):
        colour = x.mean(dim=[2, 3])
        dark = colour[:, 0] < 0.1
        rounds = 0
        while bool((dark & (colour[:, 1] > 0.9)).any()):
            rounds += 1
        if bool((dark & (colour[:, 2] > 0.9)).any()):
            far = torch.tensor([0, 1 << 40])
            colour = torch.segment_reduce(colour, "sum", offsets=far, axis=0, unsafe=True)
        return self.head(colour) + rounds


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """A function from options to a server with that model."""
    file = tmp_path_factory.mktemp("fragile") / "fragile.pt"
    with jit_warnings_ignored():
        torch.jit.script(Fragile().eval()).save(file)
    words = ("--model", str(file), "--labels", str(ROOT / "models/demo/labels.json"))
    # Without a target requests wait for the hung engine instead of being refused at once.
    settings = (
        "--preprocess",
        "none",
        "--activation",
        "softmax",
        "--target-latency-ms",
        "off",
        "--runner",
        "thread",
    )
    return lambda *options: ServerProcess(*words, *settings, *options)


@pytest.fixture(scope="module")
def one(serve):
    """One worker; its engine counts as hung after three seconds."""
    with serve("--workers", "1", "--engine-timeout-ms", "3000") as server:
        yield server


@pytest.fixture(scope="module")
def two(serve):
    """Two workers, which the last test that has them ends."""
    with serve("--workers", "2", "--engine-timeout-ms", "5000") as server:
        yield server


class Client:
    """A new connection for every request."""

    def __init__(self, server):
        self.url = server.url

    async def __aenter__(self):
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        self.session = aiohttp.ClientSession(self.url, connector=connector)
        return self

    async def __aexit__(self, *error):
        await self.session.close()

    async def post(self, image, **headers):
        """Status, kind of problem or "", and Retry-After or 0."""
        async with self.session.post("/classify", data=image, headers=headers) as response:
            return await described(response)

    async def readyz(self):
        async with self.session.get("/readyz") as response:
            return await described(response)

    async def until(self, ask, expected):
        """Asks until the answer begins so; returns it."""
        async with asyncio.timeout(90):
            while (answer := await ask())[: len(expected)] != expected:
                await asyncio.sleep(0.02)
        return answer

    async def ready_workers(self):
        async with self.session.get("/readyz") as response:
            return ((await response.json()).get("workers", {}).get("ready", 0),)


async def described(response):
    kind = (await response.json())["type"].rpartition(":")[2] if response.status >= 400 else ""
    return response.status, kind, int(response.headers.get("Retry-After", 0))


STUCK, LOADING, READY = (503, "engine-stuck"), (503, "not-ready"), (200,)


def test_all_that_wait_for_a_hung_engine_are_told_so_and_another_worker_takes_its_place(one):
    (before,) = workers_of(one)

    async def scenario():
        async with Client(one) as client:
            assert await client.post(GOOD) == (200, "", 0)
            asked = [asyncio.ensure_future(client.post(HANGS))]
            await client.until(client.readyz, STUCK)
            assert not asked[0].done(), "/readyz knows before the time limit"
            asked += [asyncio.ensure_future(client.post(GOOD)) for _ in range(5)]
            answers = await asyncio.gather(*asked)
            assert {answer[:2] for answer in answers} == {STUCK}
            assert all(retry_after >= 1 for *_, retry_after in answers)
            *_, retry_after = await client.until(client.readyz, LOADING)
            assert retry_after >= 1
            await client.until(client.readyz, READY)
            assert await client.post(GOOD) == (200, "", 0)

    asyncio.run(scenario())
    assert not before.is_running()
    assert "worker 0: the engine of fragile does not come back from a batch" in one.stderr()
    assert "ended with exit code 5" in one.stderr()


def test_a_crash_loses_only_what_is_in_flight_and_clients_are_told_when_to_come_back(one):
    async def scenario():
        async with Client(one) as client:
            await client.until(client.readyz, READY)
            with pytest.raises(aiohttp.ClientError):
                await client.post(CRASHES)
            retry_after = 0
            while retry_after == 0:  # a connection that was given to the dead worker is lost, too
                with contextlib.suppress(aiohttp.ClientError):
                    *_, retry_after = await client.until(client.readyz, LOADING)
            assert retry_after >= 1
            await client.until(client.readyz, READY)
            assert await client.post(GOOD) == (200, "", 0)

    asyncio.run(scenario())
    assert "ended with signal 11" in one.stderr()


def test_the_other_worker_serves_while_one_is_stuck_and_gets_all_connections(two):
    async def scenario():
        async with Client(two) as client:
            await client.until(client.ready_workers, (2,))
            poison = asyncio.ensure_future(client.post(HANGS))
            await client.until(client.ready_workers, (1,))
            for _ in range(20):
                assert await client.post(GOOD) == (200, "", 0)
                assert await client.readyz() == (200, "", 0)
            assert not poison.done()
            assert (await poison)[:2] == STUCK
            await client.until(client.ready_workers, (2,))

    asyncio.run(scenario())


def test_a_worker_that_stands_still_gets_no_connections_while_another_is_ready(two):
    async def scenario():
        async with Client(two) as client:
            await client.until(client.ready_workers, (2,))
            worker, _ = workers_of(two)
            worker.suspend()
            try:
                await until_told(client)
                for _ in range(20):
                    assert await client.post(GOOD) == (200, "", 0)
            finally:
                worker.resume()
            await client.until(client.ready_workers, (2,))

    async def until_told(client):
        """At first half of the connections go to the worker that stands still, and wait there."""
        while True:
            asked = asyncio.ensure_future(client.ready_workers())
            done, _ = await asyncio.wait((asked,), timeout=0.2)
            if done and asked.result() == (1,):
                return
            asked.cancel()

    asyncio.run(scenario())


def test_sigterm_waits_for_a_stuck_engine_no_longer_than_for_any_other_batch(two):
    """All are answered before the end, and the exit code tells that not all were served."""

    async def scenario():
        async with Client(two) as client:
            await client.until(client.ready_workers, (2,))
            poison = asyncio.ensure_future(client.post(HANGS))
            await client.until(client.ready_workers, (1,))
            two.send(signal.SIGTERM)
            assert (await poison)[:2] == STUCK

    asyncio.run(scenario())
    code, output = two.end(20)
    assert code == 1
    assert "drained: 1 requests answered, 0 left" in output


def test_sigterm_does_not_wait_for_a_batch_whose_client_has_left(serve):
    async def scenario(server):
        async with Client(server) as client:
            headers = {"X-Request-Timeout-Ms": "300"}
            assert (await client.post(HANGS, **headers))[:2] == (504, "deadline-exceeded")
            server.send(signal.SIGTERM)

    with serve("--workers", "1", "--engine-timeout-ms", "600000", "--drain-timeout-s", "600") as server:
        asyncio.run(scenario(server))
        code, output = server.end(20)
    assert code == 0
    assert "0 left" in output
