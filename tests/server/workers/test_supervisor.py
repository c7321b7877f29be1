"""What the supervisor makes of its workers' reports."""

from __future__ import annotations

import asyncio
import shutil
import socket

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

import server.workers.supervisor
from server.config import Config, ServerConfig
from server.workers.channel import LEAVE, MOST, SHED
from server.workers.supervisor import MOST_SILENT_BEATS, Supervisor
from server.workers.worker_process import WorkerProcess


class FakeChannel:
    def __init__(self):
        self.orders = []

    def order(self, kind, number=0):
        self.orders.append((kind, number))
        return True


class FakeWorker(WorkerProcess):
    """A worker without a process; `_note` is what a report does to it."""

    killed = False

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.channel = FakeChannel()

    def kill(self):
        self.killed = True


@pytest.fixture
async def supervisor(monkeypatch):
    """A supervisor of two, whose workers beat as fast as the loop turns."""
    monkeypatch.setattr(server.workers.supervisor, "until_beat", lambda after: 0)
    monkeypatch.setattr(server.workers.supervisor, "SupervisorMetrics", lambda shared: FakeMetrics())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Supervisor(Config(server=ServerConfig(workers=2)), {}, listening)
        yield made
        shutil.rmtree(made._shared.folder, ignore_errors=True)


class FakeMetrics:
    """Those of a process cannot be shared and then be its own again."""

    def __init__(self):
        registry = CollectorRegistry()
        self.ready, self.moved = Gauge("ready", "", registry=registry), Counter("moved", "", registry=registry)


async def test_a_worker_that_stands_still_is_killed_and_no_other(supervisor):
    silent, alive, loading = (FakeWorker(number, supervisor._heard) for number in range(3))
    silent._note({"ready": []})
    alive._note({"ready": []})
    supervisor._workers.update(enumerate((silent, alive, loading)))
    watching = asyncio.ensure_future(supervisor._watch())
    for _ in range(3 * MOST_SILENT_BEATS):
        await asyncio.sleep(0)
        alive._note({"load": [0.0, 0.0]})
    watching.cancel()
    assert (silent.killed, alive.killed, loading.killed) == (True, False, False)


def shed(worker):
    """What the worker was last told to shed."""
    return [number for kind, number in worker.channel.orders if kind == SHED][-1]


@pytest.fixture
def workers(supervisor):
    """Three, of which two are ready."""
    made = [FakeWorker(number, supervisor._heard) for number in range(3)]
    supervisor._workers.update(enumerate(made))
    for worker in made[:2]:
        worker._note({"ready": []})
    return made


async def test_a_worker_that_gets_ready_during_the_shutdown_delay_says_that_it_leaves(supervisor, workers):
    supervisor._was_ready = True
    loading = workers[2]
    supervisor._heard(workers[0], {"ready": []})
    assert (LEAVE, 0) not in loading.channel.orders
    supervisor._leaving = True
    loading._note({"ready": []})
    supervisor._heard(loading, {"ready": []})
    assert all((LEAVE, 0) in worker.channel.orders for worker in workers)


@pytest.mark.parametrize(("in_flight", "ordered"), [(12.0, 6), (1000.0, MOST)])
async def test_a_worker_that_came_back_gets_connections_of_the_one_that_has_all(
    supervisor, workers, in_flight, ordered
):
    busy, back, loading = workers
    busy._note({"load": [in_flight, 0.4]})
    back._note({"load": [0.0, 0.0]})
    supervisor._balance()
    assert (shed(busy), shed(back), loading.channel.orders) == (ordered, 0, [])
    assert (busy.expected, back.expected) == (0, ordered)
    assert supervisor._metrics.moved._value.get() == ordered
    busy._note({"load": [in_flight, 0.4]})
    back._note({"load": [in_flight, 0.4]})
    supervisor._balance()
    assert shed(busy) == 0, "who has not left by now need not"
    assert back.expected == 0, "who has not come by now will not"


@pytest.mark.parametrize("report", [None, {"load": None}, {"closed": 1}])
async def test_nobody_is_sent_to_a_worker_that_has_not_told_its_load_of_late(supervisor, workers, report):
    busy, still, _ = workers
    for worker in (busy, still):
        worker._note({"load": [0.0, 0.0]})
    supervisor._balance()
    busy._note({"load": [16.0, 0.4]})
    if report:
        still._note(report)
    supervisor._balance()
    assert (shed(busy), still.expected) == (0, 0)


async def test_nobody_is_expected_from_a_worker_that_cannot_be_told(supervisor, workers, monkeypatch):
    busy, back, _ = workers
    busy._note({"load": [16.0, 0.4]})
    back._note({"load": [0.0, 0.0]})
    monkeypatch.setattr(busy.channel, "order", lambda kind, number: False)
    supervisor._balance()
    assert back.expected == 0
    assert supervisor._metrics.moved._value.get() == 0


@pytest.mark.parametrize(
    ("report", "code"),
    [({"failed": "x: damaged"}, server.workers.supervisor.WRONG_USE), ({"load": [0.0, 0.0]}, None)],
)
async def test_a_model_that_cannot_be_served_ends_the_start(supervisor, monkeypatch, capsys, report, code):
    codes = []
    monkeypatch.setattr(server.workers.supervisor, "leave", codes.append)
    worker = FakeWorker(0, supervisor._heard)
    supervisor._workers[0] = worker
    supervisor._heard(worker, report)
    assert codes == ([code] if code else [])
    assert capsys.readouterr().err == ("snapserve: x: damaged\n" if code else "")
