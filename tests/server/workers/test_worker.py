"""What a worker answers to the orders of a change."""

from __future__ import annotations

import asyncio
import socket
import types

import pytest

from runtime.added_model import AddedModel
from runtime.errors import ChangeFailed, ModelRefused
from runtime.model_set import ModelSet
from runtime.model_set_json import to_json
from server.workers.messages import (
    Commit,
    Committed,
    Prepare,
    Prepared,
    Refused,
    Show,
    Shown,
    SupervisorEnd,
    Undo,
    Undone,
    Unhealthy,
    WorkerEnd,
    file_in_memory,
    read_file,
)
from server.workers.worker import Worker

OLD = ModelSet(("a",))
NEW = OLD.with_model(AddedModel("a", "2", "x"))


class FakeControl:
    committed = OLD

    def __init__(self):
        self.done, self.error = [], None

    async def prepare(self, models):
        self.done.append(models)
        if self.error:
            raise self.error

    async def commit(self):
        self.done.append("commit")

    async def undo(self):
        self.done.append("undo")

    def status(self):
        return [{"name": "a"}]


@pytest.fixture
async def pair():
    """A supervisor's end, and the control of the worker at the other."""
    above, below = socket.socketpair()
    with above, below:
        worker, control = Worker(None, WorkerEnd(below)), FakeControl()
        worker._service = types.SimpleNamespace(control=control)
        asyncio.get_running_loop().add_reader(below, worker._obey)
        yield SupervisorEnd(above), control, worker
        asyncio.get_running_loop().remove_reader(below)


async def report_of(above):
    async with asyncio.timeout(20):
        while not (reports := above.reports()):
            await asyncio.sleep(0)
    (report,) = reports
    return report


async def test_the_orders_of_a_change_are_obeyed_and_answered_with_their_number(pair):
    above, control, _ = pair
    for order, report in (
        (Prepare(7, to_json(NEW)), Prepared(7)),
        (Commit(7), Committed(7)),
        (Undo(8), Undone(8)),
    ):
        above.send(order)
        assert await report_of(above) == report
    assert control.done == [NEW, "commit", "undo"]


@pytest.mark.parametrize(
    ("error", "reason"), [(ModelRefused("damaged"), "damaged"), (ZeroDivisionError("x" * 9000), "x" * 2000)]
)
async def test_what_cannot_be_prepared_is_told_with_its_reason(pair, error, reason):
    above, control, _ = pair
    control.error = error
    above.send(Prepare(1, to_json(NEW)))
    assert await report_of(above) == Refused(1, "Prepare", type(error).__name__, reason)


async def test_without_a_descriptor_for_the_set_the_change_is_refused(pair, monkeypatch):
    above, control, _ = pair
    monkeypatch.setattr(WorkerEnd, "orders", lambda self: (self.socket.recv(2), iter([Prepare(1, None)]))[1])
    above.send(Commit(1))
    report = await report_of(above)
    assert (report.kind, control.done) == (ChangeFailed.__name__, [])


async def test_what_is_known_of_the_models_is_written_into_the_file(pair):
    above, *_ = pair
    with file_in_memory() as answer:
        above.send(Show(5, answer))
        assert await report_of(above) == Shown(5)
        assert read_file(answer) == b'[{"name": "a"}]'


async def test_a_version_that_fails_too_often_is_reported(pair):
    above, _, worker = pair
    worker._report_unhealthy("a", "2", "errors")
    assert await report_of(above) == Unhealthy("a", "2", "errors")
