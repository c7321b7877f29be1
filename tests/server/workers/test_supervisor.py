"""What the supervisor makes of its workers' reports."""

from __future__ import annotations

import asyncio
import shutil
import socket
import types

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

import server.workers.supervisor
from runtime.added_model import AddedModel
from runtime.model_set import ModelSet
from server.config import Config, ServerConfig
from server.operations.lifecycle import ExitCode
from server.workers.messages import Drain, Failed, Heartbeat, Leave, Ready, ReadyWorkers, Stuck, Unhealthy
from server.workers.supervisor import MOST_MISSED_HEARTBEATS, Supervisor
from server.workers.worker_process import WorkerProcess


class FakeChannel:
    def __init__(self):
        self.orders = []

    def send(self, order):
        self.orders.append(order)
        return True

    def drain(self):
        self.orders.append(Drain())


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
    monkeypatch.setattr(server.workers.supervisor, "HEARTBEAT_S", 0)
    monkeypatch.setattr(server.workers.supervisor, "SupervisorMetrics", lambda shared: FakeMetrics())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Supervisor(Config(server=ServerConfig(workers=2)), {"a": None}, [listening])
        made._spare = FakeSpare()
        yield made
        shutil.rmtree(made._shared.folder, ignore_errors=True)


class FakeSpare:
    """Counts how often it is wanted, and has no process."""

    wanted = 0

    async def take(self):
        return None

    def want(self):
        self.wanted += 1

    def look(self):
        pass

    kill = look


class FakeMetrics:
    """Those of a process cannot be shared and then be its own again."""

    def __init__(self):
        registry = CollectorRegistry()
        self.ready = Gauge("ready", "", registry=registry)
        self.ended = Counter("ended", "", registry=registry)
        self.rollbacks = Counter("rollbacks", "", registry=registry)

    def count_dropped_lines(self):
        pass


async def test_a_worker_that_stands_still_is_killed_and_no_other(supervisor):
    silent, alive, loading = (FakeWorker(supervisor._heard) for number in range(3))
    silent._note(Ready([]))
    alive._note(Ready([]))
    supervisor._workers.update(enumerate((silent, alive, loading)))
    watching = asyncio.ensure_future(supervisor._watch())
    for _ in range(3 * MOST_MISSED_HEARTBEATS):
        await asyncio.sleep(0)
        alive._note(Heartbeat())
    watching.cancel()
    assert (silent.killed, alive.killed, loading.killed) == (True, False, False)


@pytest.fixture
def workers(supervisor):
    """Three, of which two are ready."""
    made = [FakeWorker(supervisor._heard) for number in range(3)]
    supervisor._workers.update(enumerate(made))
    for worker in made[:2]:
        worker._note(Ready([]))
    return made


async def test_a_worker_that_gets_ready_during_the_shutdown_delay_says_that_it_leaves(supervisor, workers):
    supervisor._was_ready = True
    loading = workers[2]
    supervisor._heard(workers[0], Ready([]))
    assert Leave() not in loading.channel.orders
    supervisor._leaving = True
    loading._note(Ready([]))
    supervisor._heard(loading, Ready([]))
    assert all(Leave() in worker.channel.orders for worker in workers)


@pytest.mark.parametrize(
    ("report", "code"),
    [(Failed("x: damaged"), ExitCode.WRONG_USE), (Heartbeat(), None)],
)
async def test_a_model_that_cannot_be_served_ends_the_start(supervisor, monkeypatch, capsys, report, code):
    codes = []
    monkeypatch.setattr(server.workers.supervisor, "leave", codes.append)
    worker = FakeWorker(supervisor._heard)
    supervisor._workers[0] = worker
    supervisor._heard(worker, report)
    assert codes == ([code] if code else [])
    assert capsys.readouterr().err == ("snapserve: x: damaged\n" if code else "")


async def test_a_worker_whose_engine_is_overdue_is_not_counted_as_ready_until_it_is_back(supervisor, workers):
    supervisor._was_ready = True
    supervisor._heard(workers[1], Ready([]))
    for report, ready in ((Heartbeat(overdue=True), 1), (Heartbeat(), 2)):
        workers[0]._note(report)
        supervisor._heard(workers[0], report)
        assert all(worker.channel.orders[-1] == ReadyWorkers(ready) for worker in workers)
        assert workers[0].doubtful == report.overdue
    assert supervisor._spare.wanted == 1


async def test_a_worker_whose_engine_cannot_be_started_is_not_counted_as_ready_until_it_is(supervisor, workers):
    supervisor._was_ready = True
    supervisor._heard(workers[1], Ready([]))
    for report, ready in ((Heartbeat(unavailable=True), 1), (Heartbeat(), 2)):
        workers[0]._note(report)
        supervisor._heard(workers[0], report)
        assert all(worker.channel.orders[-1] == ReadyWorkers(ready) for worker in workers)
    assert not supervisor._spare.wanted, "a new worker would not help"


async def test_a_worker_that_stands_still_is_not_counted_as_ready_long_before_it_is_killed(supervisor, workers):
    watching = asyncio.ensure_future(supervisor._watch())
    while not workers[0].doubtful:
        await asyncio.sleep(0)
        workers[1]._note(Heartbeat())
    await asyncio.sleep(0)
    watching.cancel()
    assert workers[1].channel.orders[-1] == ReadyWorkers(1)
    assert not workers[0].killed


async def test_a_worker_whose_engine_is_stuck_gets_no_more_connections_and_is_drained(supervisor, workers):
    workers[0]._note(Stuck("cats"))
    supervisor._heard(workers[0], Stuck("cats"))
    assert workers[0].leaving
    assert Drain() in workers[0].channel.orders
    assert workers[1].channel.orders[-1] == ReadyWorkers(1)


async def test_workers_that_are_ready_and_soon_end_wait_by_themselves_so_that_connections_are_answered(
    supervisor, monkeypatch
):
    """The supervisor starts each at once: only a worker can answer 503."""
    begun = []

    class EndsSoon(FakeWorker):
        process = types.SimpleNamespace(pid=1)

        def begin(self, number, config, shared, delay_s, start_s, models):
            begun.append(delay_s)
            self._note(Ready([]))

        async def wait(self):
            supervisor._stopping = len(begun) == 4
            return ExitCode.ENGINE_STUCK

    async def spawn():
        return EndsSoon(supervisor._heard)

    async def sleep(seconds):
        assert seconds == 0

    monkeypatch.setattr(supervisor, "_spawn", spawn)
    monkeypatch.setattr(server.workers.supervisor.asyncio, "sleep", sleep)
    await supervisor._keep(0)
    assert begun == [0, 0.5, 1, 2]
    assert supervisor._spare.wanted == 3, "after the first that ended soon"


@pytest.mark.parametrize("was_ready", [True, False])
async def test_a_worker_with_old_models_is_started_again_at_once_with_the_new_ones_and_counts_as_no_failure(
    supervisor, monkeypatch, was_ready
):
    begun, follows, new = [], [], ModelSet(("a",)).with_model(AddedModel("a", "2", "x"))

    class Outdated(FakeWorker):
        process = types.SimpleNamespace(pid=1)

        def begin(self, number, config, shared, delay_s, start_s, models):
            begun.append((models, delay_s))
            if was_ready:
                self._note(Ready([]))

        async def wait(self):
            follows.append(self.follows_outdated)
            if len(begun) == 1:
                supervisor._changes.committed = new
                self.outdated = True
            supervisor._stopping = len(begun) == 2
            return ExitCode.UNANSWERED

    async def spawn():
        return Outdated(supervisor._heard)

    monkeypatch.setattr(supervisor, "_spawn", spawn)
    await supervisor._keep(0)
    assert begun == [(ModelSet(("a",)), 0), (new, 0)]
    assert follows == [False, not was_ready], "changes wait for one whose start was ended"
    assert supervisor._metrics.ended._value.get() == 0


async def test_changes_are_possible_from_when_all_workers_are_ready(supervisor, monkeypatch):
    for name in ("banner", "reason"):
        monkeypatch.setattr(server.workers.supervisor, name, lambda *_: "")
    made = [FakeWorker(supervisor._heard) for number in range(2)]
    supervisor._workers.update(enumerate(made))
    for worker in made:
        assert supervisor._changes.refusal == "The server is starting."
        worker._note(Ready([]))
        supervisor._heard(worker, Ready([]))
    assert supervisor._changes.refusal == ""


async def test_a_worker_that_reports_a_failing_version_has_it_rolled_back(supervisor, workers):
    supervisor._changes.refusal = ""
    models = ModelSet(("a",)).with_model(AddedModel("a", "2", "x")).with_default("a", "2")
    supervisor._changes.committed = models
    for worker in supervisor._workers.values():
        worker.leaving = True  # nobody is asked
    supervisor._heard(workers[0], Unhealthy("a", "2", "errors"))
    await asyncio.gather(*supervisor._rolling_back)
    assert supervisor._changes.committed.default_of("a") == "1"
    assert supervisor._metrics.rollbacks._value.get() == 1
