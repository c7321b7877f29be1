"""Several processes behind one port: what each tells of all, and what becomes of requests when one ends."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from benchmark.harness.server import ROOT, ServerProcess
from tests.end_to_end.workers import figures, workers_of
from tests.processes import outlive

DIGIT = next((ROOT / "images").glob("digit-7-*"))
DEMO = ("--model", str(ROOT / "models" / "demo"))
CLIENTS = 12


@pytest.fixture(scope="module")
def server():
    """Two workers with the digits demo, which the last test that has it ends."""
    with ServerProcess(*DEMO, "--workers", "2") as running:
        yield running


def shared_folder(server):
    """Where the processes keep their figures; None before both workers have begun to."""
    folder = next((file.parent for file in figures(psutil.Process(server.process.pid))), None)
    members = {file.stem.rpartition("_")[2] for file in folder.iterdir()} if folder else set()
    return folder if members >= {"0", "1"} else None


def connect(server):
    return http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)


def ask(connection, path, body=None):
    connection.request("GET" if body is None else "POST", path, body)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_every_worker_tells_the_figures_of_all(server):
    first, second = connect(server), connect(server)
    for connection, times in ((first, 3), (second, 5)):
        for _ in range(times):
            assert ask(connection, "/classify", DIGIT.read_bytes())[0] == 200
    answered_by = {process.pid: len(process.net_connections("tcp")) for process in workers_of(server)}
    assert list(answered_by.values()) == [1, 1], "each has one of the two connections"
    for connection in (first, second):
        text = ask(connection, "/metrics")[1]
        assert 'snapserve_requests_total{outcome="ok"} 8.0' in text
        assert 'snapserve_phase_seconds_count{model="digits",phase="infer",version="1"} 8.0' in text
        assert "snapserve_workers_ready 2.0" in text
        assert "snapserve_model_info{" in text
        assert json.loads(ask(connection, "/readyz")[1]) == {"status": "ready", "workers": {"ready": 2, "all": 2}}
        connection.close()


async def keep_asking(url, outcomes, stop):
    """One client with one connection, until it fails or is told to stop; notes every answer."""
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        try:
            while not stop.is_set():
                async with session.post("/classify", data=DIGIT.read_bytes()) as response:
                    answer = await response.json()
                    outcomes.append(
                        answer["predictions"][0]["label"] if response.status == 200 else response.status
                    )
        except aiohttp.ClientError:
            outcomes.append("failed")


async def ready_workers(session):
    async with session.get("/readyz") as response:
        return (await response.json())["workers"]["ready"]


async def until(condition, seconds=60.0):
    """Waits until the awaitable that `condition` makes gives true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


def test_a_worker_that_is_killed_takes_only_its_own_connections_along_and_comes_back(server):
    victim, survivor = workers_of(server)

    async def scenario():
        stop, outcomes = asyncio.Event(), [[] for _ in range(CLIENTS)]
        clients = [asyncio.ensure_future(keep_asking(server.url, each, stop)) for each in outcomes]
        async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(force_close=True)) as session:
            await until(lambda: _true(all(len(each) > 3 for each in outcomes)))
            victim.suspend()  # or its connections could become another's while they are counted
            lost = len(victim.net_connections("tcp"))
            victim.kill()
            await until(lambda: _true(sum(client.done() for client in clients) >= lost))
            answers = [len(each) for each in outcomes]
            for _ in range(20):  # newcomers go to the other one
                async with session.post("/classify", data=DIGIT.read_bytes()) as response:
                    assert response.status == 200
            await until(
                lambda: _true(
                    all(
                        len(each) > count + 3
                        for each, count in zip(outcomes, answers, strict=True)
                        if each[-1] != "failed"
                    )
                )
            )
            await until(lambda: _equals(ready_workers(session), 2))
        stop.set()
        await asyncio.gather(*clients)
        return lost, outcomes

    lost, outcomes = asyncio.run(scenario())
    failed = [each for each in outcomes if each[-1] == "failed"]
    assert 0 < len(failed) == lost < CLIENTS
    assert {label for each in outcomes for label in each} == {"7", "failed"}
    assert re.search(r"worker 0 .* ended with signal 9; .*\n.* worker 0 is ready, ", server.stderr())
    assert survivor.is_running()
    connection = connect(server)
    text = ask(connection, "/metrics")[1]
    connection.close()
    assert "snapserve_workers_ended_total 1.0" in text
    counted = next(line for line in text.splitlines() if line.startswith('snapserve_requests_total{outcome="ok"}'))
    answered = sum(label == "7" for each in outcomes for label in each) + 20
    assert float(counted.rpartition(" ")[2]) >= 8 + answered, "the dead one's figures stay"


def test_a_worker_that_comes_back_gets_clients_of_the_others_and_none_of_them_notices():
    """Clients keep their connections; the survivor closes each after its last request, the next one is shared."""
    with ServerProcess(*DEMO, "--workers", "2", "--keepalive-requests", "20") as server:
        victim, survivor = workers_of(server)

        async def scenario():
            victim.kill()
            stop, outcomes = asyncio.Event(), [[] for _ in range(CLIENTS)]
            connector = aiohttp.TCPConnector(force_close=True)
            async with aiohttp.ClientSession(server.url, connector=connector) as session:
                await until(lambda: _equals(ready_workers(session), 1))
                clients = [asyncio.ensure_future(keep_asking(server.url, each, stop)) for each in outcomes]
                await until(lambda: _true(all(outcomes)))
                await until(lambda: _equals(ready_workers(session), 2))
                (back,) = set(workers_of(server)) - {survivor}
                await until(lambda: _true(len(back.net_connections("tcp")) >= CLIENTS // 3))
            stop.set()
            await asyncio.gather(*clients)
            return outcomes

        outcomes = asyncio.run(scenario())
    assert {label for each in outcomes for label in each} == {"7"}


async def _true(value):
    return value


async def _equals(awaitable, value):
    return await awaitable == value


def test_a_worker_that_is_told_to_end_is_replaced(server):
    first, second = workers_of(server)
    first.terminate()

    async def scenario():
        async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(force_close=True)) as session:

            async def replaced():
                async with session.post("/classify", data=DIGIT.read_bytes()) as response:
                    assert response.status == 200
                return not first.is_running() and await ready_workers(session) == 2

            await until(replaced)

    asyncio.run(scenario())
    assert second.is_running()
    assert "ended with exit code 0" in server.stderr()


async def ask_anew(url, outcomes):
    """A client with a new connection for every request, until there is no port any more."""
    host, port = urlsplit(url).netloc.split(":")
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            return
        try:
            writer.write(head % DIGIT.stat().st_size + DIGIT.read_bytes())
            outcomes.append((await reader.read())[:12])
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            outcomes.append(error)


def test_sigterm_under_load_loses_no_connection_that_was_accepted(server):
    async def scenario():
        outcomes = []
        clients = [asyncio.ensure_future(ask_anew(server.url, outcomes)) for _ in range(CLIENTS)]
        await until(lambda: _true(len(outcomes) > 50))
        server.send(signal.SIGTERM)
        await asyncio.gather(*clients)
        return outcomes

    outcomes = asyncio.run(scenario())
    code, output = server.end()
    assert set(outcomes) == {b"HTTP/1.1 200"}
    assert code == 0
    assert ", 0 left, " in output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_shutdown_delay_serves_new_connections_and_loses_no_request(workers):
    """/readyz, on new connections, says 503 from the signal on, while everything else goes on."""

    async def scenario(server):
        outcomes, stop, kept, states = [], asyncio.Event(), [], []
        clients = [asyncio.ensure_future(ask_anew(server.url, outcomes)) for _ in range(CLIENTS)]
        keeping = asyncio.ensure_future(keep_asking(server.url, kept, stop))
        async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(force_close=True)) as session:
            await until(lambda: _true(len(outcomes) > 20 and kept))
            server.send(signal.SIGTERM)

            async def says_503():
                async with session.get("/readyz") as response:
                    states.append(response.status)
                return states[-1] == 503

            await until(says_503)
            answered, kept_before = len(outcomes), len(kept)
            await until(lambda: _true(len(outcomes) > answered + 5 * CLIENTS and len(kept) > kept_before + 5))
            for _ in range(5):  # whichever worker is asked
                assert await says_503()
        stop.set()
        await keeping
        await asyncio.gather(*clients)
        return outcomes, kept

    with ServerProcess(*DEMO, "--workers", workers, "--shutdown-delay-s", "5") as server:
        outcomes, kept = asyncio.run(scenario(server))
        code, output = server.end()
    assert set(outcomes) == {b"HTTP/1.1 200"}
    assert set(kept) == {"7"}
    assert code == 0
    assert "stopping in 5 s" in output
    assert ", 0 left, " in output


@contextlib.contextmanager
def pipes_kept_open(process):
    """The writing ends of the pipes of a process are open after its end: nothing that reads them sees it."""
    with contextlib.ExitStack() as stack:
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            if descriptor.is_fifo() and int(descriptor.name) > 2:
                stack.enter_context(descriptor.open("r+b", buffering=0))
        yield


@pytest.mark.parametrize("moment", ["loading", "serving"])
def test_workers_see_the_end_of_their_supervisor_by_the_channel_alone(moment):
    with ServerProcess(*DEMO, "--workers", "2", wait=moment == "serving") as server:
        deadline = time.monotonic() + 30
        while (folder := shared_folder(server)) is None or len(workers := workers_of(server)) < 2:
            assert time.monotonic() < deadline
        with pipes_kept_open(server.process):
            server.process.kill()
            assert outlive(workers) == []
    assert not folder.exists()


@pytest.mark.parametrize("moment", ["loading", "serving"])
def test_no_worker_outlives_a_supervisor_that_is_killed(moment):
    with ServerProcess(*DEMO, "--workers", "2", wait=moment == "serving") as server:
        deadline = time.monotonic() + 30
        while (folder := shared_folder(server)) is None or len(workers := workers_of(server)) < 2:
            assert time.monotonic() < deadline
        server.process.kill()
        assert outlive(workers) == []
    assert not folder.exists()


def test_workers_that_never_get_ready_end_the_server_with_code_3_and_one_line(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'server.workers.worker' in sys.orig_argv:\n    os._exit(77)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with ServerProcess(*DEMO, "--workers", "2", "--log-level", "error", wait=False) as server:
        code, _ = server.end()
        said = server.stderr()
    assert code == 3
    assert said.startswith("snapserve: worker ")
    assert said.endswith(" cannot start: it ended with exit code 77 again and again\n")
    assert said.count("\n") == 1
