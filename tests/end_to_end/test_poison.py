"""Images that make a native model crash, hang or run out of memory: who else notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import aiohttp
import psutil
import pytest

from benchmark.harness.poison import CRASH, HANG, MEMORY, image, write_poisoned
from benchmark.harness.server import ROOT, ServerProcess
from tests.processes import outlive

DEMO = ("--model", str(ROOT / "models" / "demo"))
LIMITS = ("--engine-timeout-ms", "1000", "--engine-memory-mb", "1000")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_poisoned(tmp_path_factory.mktemp("poisoned"))


@pytest.fixture(scope="module")
def server(file):
    """One worker with the poisoned file, which `--runner auto` puts into a process. The last test ends it."""
    with ServerProcess("--model", str(file), "--workers", "1", *LIMITS) as running:
        yield running


def engines_of(server):
    """The processes of engines: children of a process that is forked from."""
    named = {}
    for each in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it is ending
            if "runtime.processes.main" in each.cmdline():
                named[each.pid] = each.ppid()
    return [psutil.Process(pid) for pid, parent in named.items() if parent in named and psutil.pid_exists(pid)]


async def ask(session, data):
    """Status, and the label or the kind of the problem."""
    async with session.post("/classify", data=data) as response:
        answer = await response.json()
        problem = answer.get("type", "").rpartition(":")[2]
        return response.status, problem or answer["predictions"][0]["label"]


def ask_together(server, *images):
    """The answers to images that come at the same time."""

    async def scenario():
        async with aiohttp.ClientSession(server.url) as session:
            return await asyncio.gather(*(ask(session, each) for each in images))

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fault", "refusals"),
    [
        (CRASH, [(422, "engine-crash")]),
        (HANG, [(422, "engine-timeout")]),
        (MEMORY, [(422, "engine-crash"), (500, "internal-error")]),  # libtorch crashes, or raises
    ],
    ids=["crash", "hang", "memory"],
)
def test_only_the_image_that_kills_is_refused(server, fault, refusals):
    good = [image(number) for number in range(20)]
    *answers, poison = ask_together(server, *good, image(7, fault))
    assert answers == [(200, "dark")] * 20
    assert poison in refusals


@pytest.mark.parametrize(("fault", "kind"), [(CRASH, "engine-crash"), (HANG, "engine-timeout")])
def test_what_has_killed_twice_reaches_no_process(server, fault, kind):
    for _ in range(2):
        ask_together(server, image(7, fault))  # what came in a batch has killed twice already
    before = ask_together(server, image(1)), {each.pid for each in engines_of(server)}
    assert ask_together(server, image(7, fault)) == [(422, kind)]
    assert {each.pid for each in engines_of(server)} >= before[1]


def test_a_process_of_the_engine_that_is_killed_loses_no_request(server):
    async def scenario():
        async with aiohttp.ClientSession(server.url) as session:
            stop = asyncio.Event()

            async def client(first):
                answers = []
                while not stop.is_set():
                    answers.append(await ask(session, image(first + len(answers))))
                return answers

            clients = [asyncio.ensure_future(client(1000 * number)) for number in range(8)]
            for _ in range(3):
                for process in engines_of(server):
                    process.kill()
                assert await ask(session, image(1)) == (200, "dark")
            stop.set()
            return [answer for answers in await asyncio.gather(*clients) for answer in answers]

    answers = asyncio.run(scenario())
    assert answers and set(answers) == {(200, "dark")}


def test_readyz_tells_of_an_engine_that_does_not_start_again(server, file):
    async def until(status):
        async with asyncio.timeout(60), aiohttp.ClientSession(server.url) as session:
            while True:
                async with session.get("/readyz") as response:
                    if response.status == status:
                        return response.headers.get("Retry-After"), await response.json()
                await asyncio.sleep(0.05)

    kept = file.rename(file.with_suffix(".kept"))
    for process in engines_of(server):
        process.kill()
    retry_after, problem = asyncio.run(until(503))
    assert problem["type"].endswith("engine-unavailable")
    assert 1 <= int(retry_after) <= 30
    kept.rename(file)
    assert asyncio.run(until(200))[1]["workers"] == {"ready": 1, "all": 1}

    async def all_metrics():
        async with aiohttp.ClientSession(server.url) as session:
            return await metrics(session)

    counted = asyncio.run(all_metrics())
    for reason in (b"killed", b"load"):
        labels = b'{model="poisoned",reason="%s",version="1"}' % reason
        assert b"snapserve_engine_processes_ended_total" + labels in counted
    assert ask_together(server, image(1)) == [(200, "dark")]


def test_a_drain_does_not_wait_for_an_engine_that_hangs(server):
    processes = psutil.Process(server.process.pid).children(recursive=True)

    async def scenario():
        async with aiohttp.ClientSession(server.url) as session:
            hanging = asyncio.ensure_future(ask(session, image(8, HANG)))
            while b'snapserve_batches_in_flight{model="poisoned",version="1"} 1.0' not in await metrics(session):
                await asyncio.sleep(0.01)
            server.send(signal.SIGTERM)
            return await hanging

    assert asyncio.run(scenario()) == (422, "engine-timeout")
    code, output = server.end(20)
    assert code == 0, server.stderr()
    assert "1 requests answered, 0 left" in output
    assert outlive(processes) == []


async def metrics(session):
    async with session.get("/metrics") as response:
        return await response.read()


def test_no_process_is_left_when_worker_or_supervisor_is_killed():
    with ServerProcess(*DEMO, "--runner", "process", "--workers", "2") as server:
        assert ask_together(server, (ROOT / "images" / "cat.jpg").read_bytes())[0][0] == 200
        supervisor = psutil.Process(server.process.pid)
        first, second = supervisor.children()
        for victim in (first, supervisor):
            below = victim.children(recursive=True)
            assert len(below) >= 2
            os.kill(victim.pid, signal.SIGKILL)
            assert outlive(below) == []
        assert outlive([second]) == []
