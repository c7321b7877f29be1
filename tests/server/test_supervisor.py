"""What the supervisor makes of its workers' reports."""

from __future__ import annotations

import asyncio
import shutil
import socket

import pytest

import server.supervisor
from server.config import Config, ServerConfig
from server.supervisor import MOST_SILENT_BEATS, Supervisor
from server.worker_process import WorkerProcess


class FakeChannel:
    def order(self, kind, number):
        return True


class FakeWorker(WorkerProcess):
    """A worker without a process; `_note` is what a report does to it."""

    killed = False
    channel = FakeChannel()

    def kill(self):
        self.killed = True


@pytest.fixture
async def supervisor(monkeypatch):
    """A supervisor of two, whose workers beat as fast as the loop turns."""
    monkeypatch.setattr(server.supervisor, "BEAT_S", 0)
    monkeypatch.setattr(server.supervisor, "SupervisorMetrics", lambda shared: FakeMetrics())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Supervisor(Config(server=ServerConfig(workers=2)), {}, listening)
        yield made
        shutil.rmtree(made._shared.folder, ignore_errors=True)


class FakeMetrics:
    """Those of a process cannot be shared and then be its own again."""

    class ready:
        @staticmethod
        def set(value):
            pass


async def test_a_worker_that_stands_still_is_killed_and_no_other(supervisor):
    silent, alive, loading = (FakeWorker(number, supervisor._heard) for number in range(3))
    silent._note({"ready": []})
    alive._note({"ready": []})
    supervisor._workers.update(enumerate((silent, alive, loading)))
    watching = asyncio.ensure_future(supervisor._watch())
    for _ in range(3 * MOST_SILENT_BEATS):
        await asyncio.sleep(0)
        alive._note({"alive": True})
    watching.cancel()
    assert (silent.killed, alive.killed, loading.killed) == (True, False, False)


@pytest.mark.parametrize(
    ("report", "code"), [({"failed": "x: damaged"}, server.supervisor.WRONG_USE), ({"alive": True}, None)]
)
async def test_a_model_that_cannot_be_served_ends_the_start(supervisor, monkeypatch, capsys, report, code):
    codes = []
    monkeypatch.setattr(server.supervisor, "leave", codes.append)
    worker = FakeWorker(0, supervisor._heard)
    supervisor._workers[0] = worker
    supervisor._heard(worker, report)
    assert codes == ([code] if code else [])
    assert capsys.readouterr().err == ("snapserve: x: damaged\n" if code else "")
