"""A change reaches all workers or none, whatever becomes of a worker in the middle of it.

Real sockets between both ends; the worker's part is played by each test.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from runtime.added_model import AddedModel
from runtime.errors import ChangeFailed, ModelRefused, TooManyChanges, UnknownModel, VersionTaken
from runtime.journal import Journal, JournalError
from runtime.model_set import ModelSet
from runtime.model_set_json import from_json
from server.config import Config, ManagementConfig, ModelConfig
from server.workers.changes import MOST_WAITING, ChangeLimits, Changes, changes_of, journal_file
from server.workers.messages import (
    Commit,
    Committed,
    Drain,
    Heartbeat,
    Leaving,
    Prepare,
    Prepared,
    Ready,
    Refused,
    Show,
    Shown,
    SupervisorEnd,
    Undo,
    Undone,
    Unhealthy,
    WorkerEnd,
)
from server.workers.rollback import roll_back
from server.workers.worker_process import WorkerProcess

OLD = ModelSet(("a",))
TWO = AddedModel("a", "2", "x")
NEW = OLD.with_model(TWO)
LIMITS = ChangeLimits(prepare_s=20, commit_s=20, undo_s=20)


def add_two(models):
    return models.with_model(TWO)


class Player:
    """A worker without a process: its orders come by a real socket, and a test says what it answers."""

    def __init__(self, number, heard, is_ready=True):
        above, below = socket.socketpair()
        self.process = WorkerProcess(heard)
        self.process.channel, self.process.number, self.process.models = SupervisorEnd(above), number, OLD
        self.end, self.orders, self.arrived = WorkerEnd(below), [], asyncio.Event()
        self.answers, self.models = {}, None
        loop = asyncio.get_running_loop()
        loop.add_reader(above, self.process._read)
        loop.add_reader(below, self._read)
        if is_ready:
            self.process._note(Ready([]))

    def _read(self):
        for order in self.end.orders():
            self.orders.append(order)
            if isinstance(order, Prepare):
                self.models = order.models
            if isinstance(order, Drain):
                asyncio.get_running_loop().remove_reader(self.end.socket)
            elif type(order) in self.answers:
                self.answers[type(order)](order)
        self.arrived.set()

    def obeys(self, *kinds):
        """It does what orders of these kinds say, at once."""
        replies = {Prepare: Prepared, Commit: Committed, Undo: Undone}
        for kind in kinds or replies:
            reply = replies[kind]
            self.answers[kind] = lambda order, reply=reply: self.end.send(reply(order.change))
        return self

    def on(self, kind, act):
        self.answers[kind] = act
        return self

    def refuses(self, kind, error, reason):
        return self.on(
            kind, lambda order: self.end.send(Refused(order.change, kind.__name__, error.__name__, reason))
        )

    async def until(self, kind):
        """Waits until it has got an order of that kind, the last of which is returned."""
        async with asyncio.timeout(20):
            while not (found := [order for order in self.orders if isinstance(order, kind)]):
                self.arrived.clear()
                await self.arrived.wait()
        return found[-1]

    def die(self, *_):
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.end.socket)
        self.end.socket.close()

    @property
    def kinds(self):
        return [type(order) for order in self.orders]

    def close(self):
        loop = asyncio.get_running_loop()
        for each in (self.end.socket, self.process.channel.socket):
            if each.fileno() >= 0:
                loop.remove_reader(each)
                each.close()


class Fleet:
    """Some workers, and the changes of all; a worker that is asked to end is noticed, and not replaced."""

    def __init__(self, journal):
        self.players, self.journal = [], journal
        self.changes = Changes(lambda: [each.process for each in self.players], OLD, journal, LIMITS)
        self.changes.refusal = ""

    def add(self, is_ready=True):
        player = Player(len(self.players), self.heard, is_ready)
        self.players.append(player)
        return player

    def heard(self, worker, report):
        self.changes.heard(worker, report)
        if isinstance(report, Leaving):
            worker.leave()

    @property
    def stored(self):
        return self.journal.read(OLD.fixed)


@pytest.fixture
async def fleet(tmp_path):
    journal = Journal(tmp_path / "models.json")
    made = Fleet(journal)
    yield made
    for each in made.players:
        each.close()
    journal.close()


async def refusal_of(change, error=ChangeFailed):
    async with asyncio.timeout(20):
        with pytest.raises(error) as caught:
            await change
    return str(caught.value)


async def test_all_prepare_then_the_journal_is_written_then_all_commit(fleet):
    first, second = fleet.add().obeys(), fleet.add()
    changing = asyncio.ensure_future(fleet.changes.change(add_two))
    order = await second.until(Prepare)
    await first.until(Prepare)
    assert from_json(order.models, OLD.fixed) == NEW
    assert (fleet.stored, fleet.changes.committed) == (OLD, OLD), "nothing is decided while one loads"
    second.on(Commit, lambda order: (seen.append(fleet.stored), second.end.send(Committed(order.change))))
    seen = []
    second.end.send(Prepared(order.change))
    assert await changing == NEW
    assert seen == [NEW], "the journal is written before a worker commits"
    assert first.kinds == second.kinds == [Prepare, Commit]
    assert [each.process.models for each in fleet.players] == [NEW, NEW]
    assert fleet.changes.committed == NEW


async def test_a_change_is_answered_when_the_last_worker_has_committed(fleet):
    fleet.add().obeys()
    slow = fleet.add().obeys(Prepare)
    changing = asyncio.ensure_future(fleet.changes.change(add_two))
    order = await slow.until(Commit)
    await asyncio.sleep(0)
    assert not changing.done()
    slow.end.send(Committed(order.change))
    assert await changing == NEW


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(ModelRefused, "x: damaged"), (UnknownModel, "No such model."), (ZeroDivisionError, "by zero")],
)
async def test_what_one_worker_cannot_load_is_undone_by_all_and_its_reason_is_the_answer(fleet, kind, reason):
    good, bad = fleet.add().obeys(), fleet.add().obeys().refuses(Prepare, kind, reason)
    expected = ChangeFailed if kind is ZeroDivisionError else kind
    assert await refusal_of(fleet.changes.change(add_two), expected) == reason
    assert good.kinds == bad.kinds == [Prepare, Undo]
    assert (fleet.stored, fleet.changes.committed) == (OLD, OLD)
    assert not any(each.process.leaving for each in fleet.players)


async def test_a_refusal_that_comes_after_the_undo_has_begun_is_no_answer_to_it(fleet):
    fleet.add().obeys().refuses(Prepare, ModelRefused, "damaged")
    late = fleet.add()
    changing = asyncio.ensure_future(fleet.changes.change(add_two))
    order = await late.until(Undo)
    late.end.send(Refused(order.change, "Prepare", "ChangeFailed", "undone meanwhile"))
    late.end.send(Prepared(order.change - 1))
    late.end.send(Undone(order.change))
    assert await refusal_of(changing, ModelRefused) == "damaged"
    assert not late.process.leaving


@pytest.mark.parametrize("how", ["dies", "is told to end"])
async def test_a_worker_that_ends_while_it_loads_undoes_the_change(fleet, how):
    good, ends = fleet.add().obeys(), fleet.add()
    ends.on(Prepare, ends.die if how == "dies" else lambda _: ends.end.send(Leaving()))
    assert "Worker 1 ended" in await refusal_of(fleet.changes.change(add_two))
    assert good.kinds == [Prepare, Undo]
    assert (fleet.stored, fleet.changes.committed) == (OLD, OLD)


async def test_a_worker_that_takes_too_long_undoes_the_change_and_is_drained_if_it_does_not_come_back(fleet):
    fleet.changes._limits = ChangeLimits(prepare_s=0.05, undo_s=0.05, commit_s=20)
    good, slow, back = fleet.add().obeys(), fleet.add(), fleet.add().obeys(Undo)
    assert "longer than 0.05 s" in await refusal_of(fleet.changes.change(add_two))
    assert [each.process.outdated for each in (good, slow, back)] == [False, True, False]
    await slow.until(Drain)
    assert (fleet.stored, good.kinds) == (OLD, [Prepare, Undo])


async def test_a_worker_that_dies_between_prepare_and_commit_does_not_stop_the_change(fleet, monkeypatch):
    good, dies = fleet.add().obeys(), fleet.add().obeys(Prepare)
    write = fleet.journal.write
    monkeypatch.setattr(fleet.journal, "write", lambda models: (dies.end.socket.shutdown(2), write(models)))
    asyncio.get_running_loop().remove_reader(dies.end.socket)
    asyncio.get_running_loop().add_reader(dies.end.socket, lambda: None if Commit in dies.kinds else dies._read())
    assert await fleet.changes.change(add_two) == NEW
    assert (fleet.stored, good.process.models) == (NEW, NEW)
    assert dies.process.leaving


async def test_a_worker_that_dies_at_the_commit_starts_again_with_the_new_set(fleet):
    good, dies = fleet.add().obeys(), fleet.add().obeys(Prepare)
    dies.on(Commit, dies.die)
    assert await fleet.changes.change(add_two) == NEW
    assert (fleet.stored, fleet.changes.committed, good.process.outdated) == (NEW, NEW, False)


@pytest.mark.parametrize("answer", ["nothing", "refusal"])
async def test_a_worker_that_does_not_commit_is_drained(fleet, answer):
    fleet.changes._limits = ChangeLimits(prepare_s=20, undo_s=20, commit_s=0.05)
    good, bad = fleet.add().obeys(), fleet.add().obeys(Prepare)
    if answer == "refusal":
        bad.refuses(Commit, ValueError, "no")
    assert await fleet.changes.change(add_two) == NEW
    assert (good.process.outdated, bad.process.outdated) == (False, True)
    await bad.until(Drain)


async def test_a_worker_that_starts_meanwhile_with_the_old_set_is_drained(fleet):
    fleet.add().obeys()
    starting, current = fleet.add(is_ready=False), fleet.add(is_ready=False)
    current.process.models = NEW  # it has begun after the journal was written
    await fleet.changes.change(add_two)
    assert (starting.process.outdated, current.process.outdated) == (True, False)
    assert await starting.until(Drain)
    assert starting.kinds == [Drain]


async def test_a_change_waits_for_a_worker_whose_start_the_one_before_has_ended(fleet):
    fleet.add().obeys()
    starting = fleet.add(is_ready=False)
    await fleet.changes.change(add_two)
    assert starting.process.outdated
    changing = asyncio.ensure_future(fleet.changes.change(lambda models: models.with_default("a", "2")))
    await asyncio.sleep(0.01)
    assert fleet.stored == NEW, "it waits while the next one is not there"
    following = fleet.players[1] = Player(1, fleet.heard, is_ready=False).obeys()
    following.process.models, following.process.follows_outdated = NEW, True
    starting.end.send(Heartbeat())
    await asyncio.sleep(0.01)
    assert fleet.stored == NEW, "it waits while the next one starts"
    following.end.send(Ready([]))
    assert (await changing).default_of("a") == "2"
    assert following.kinds == [Prepare, Commit]
    starting.close()


@pytest.mark.parametrize("why", ["it dies", "it takes too long", "the server stops"])
async def test_a_change_does_not_wait_for_ever_for_a_start(fleet, why):
    ready, starting = fleet.add().obeys(), fleet.add(is_ready=False)
    starting.process.follows_outdated = True
    fleet.changes._limits = ChangeLimits(20, 20, 20, start_s=0.5 if why == "it takes too long" else 20)
    changing = asyncio.ensure_future(fleet.changes.change(add_two))
    await asyncio.sleep(0.01)
    assert ready.orders == []
    if why == "the server stops":
        fleet.changes.end()
        assert await refusal_of(changing) == "The server is stopping."
        return
    if why == "it dies":
        starting.die()
    assert await changing == NEW


async def test_a_worker_whose_channel_is_full_undoes_the_change(fleet, monkeypatch):
    good, full = fleet.add().obeys(), fleet.add()
    monkeypatch.setattr(full.process.channel, "send", lambda order: False)
    await refusal_of(fleet.changes.change(add_two))
    assert good.kinds == [Prepare, Undo]


async def test_a_journal_that_cannot_be_written_undoes_the_change(fleet, monkeypatch):
    def fail(models):
        raise JournalError("models.json: No space left on device")

    monkeypatch.setattr(fleet.journal, "write", fail)
    worker = fleet.add().obeys()
    assert "journal" in await refusal_of(fleet.changes.change(add_two))
    assert (worker.kinds, fleet.changes.committed) == ([Prepare, Undo], OLD)


async def test_changes_come_one_after_the_other_each_on_what_the_last_left(fleet):
    worker = fleet.add().obeys(Commit, Undo)
    first = asyncio.ensure_future(fleet.changes.change(add_two))
    second = asyncio.ensure_future(fleet.changes.change(add_two))
    order = await worker.until(Prepare)
    await asyncio.sleep(0)
    assert worker.kinds == [Prepare], "the second one waits"
    worker.end.send(Prepared(order.change))
    assert await first == NEW
    assert "has a version 2" in await refusal_of(second, VersionTaken)
    assert worker.kinds == [Prepare, Commit], "what cannot be reaches no worker"


async def test_so_many_changes_may_wait_and_a_rollback_always_may(fleet):
    worker = fleet.add().obeys(Commit, Undo)
    changes = [asyncio.ensure_future(fleet.changes.change(add_two)) for _ in range(MOST_WAITING)]
    await worker.until(Prepare)
    await refusal_of(fleet.changes.change(add_two), TooManyChanges)
    must = asyncio.ensure_future(fleet.changes.change(lambda models: models.with_default("a", "2"), must=True))
    worker.obeys()
    worker.end.send(Prepared(worker.orders[0].change))
    await asyncio.gather(*changes, return_exceptions=True)
    assert (await must).default_of("a") == "2"


async def test_a_change_goes_on_when_the_one_that_asked_for_it_has_left(fleet):
    worker = fleet.add().obeys(Commit)
    asking = asyncio.ensure_future(fleet.changes.change(add_two))
    order = await worker.until(Prepare)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    worker.end.send(Prepared(order.change))
    await worker.until(Commit)
    assert fleet.stored == NEW


async def test_a_change_that_changes_nothing_reaches_nobody(fleet):
    worker = fleet.add()
    assert await fleet.changes.change(lambda models: models.with_default("a", "1")) == OLD
    assert worker.orders == []


async def test_without_a_ready_worker_nothing_can_be_loaded_and_the_default_can_be_switched(fleet):
    fleet.changes.committed = NEW
    starting = fleet.add(is_ready=False)
    await refusal_of(fleet.changes.change(lambda models: models.with_model(AddedModel("b", "1", "x"))))
    switched = await fleet.changes.change(lambda models: models.with_default("a", "2"))
    assert (fleet.stored, starting.process.outdated) == (switched, True)


async def test_while_the_server_starts_or_stops_nothing_changes(fleet):
    fleet.add().obeys()
    fleet.changes.refusal = "The server is stopping."
    assert await refusal_of(fleet.changes.change(add_two)) == "The server is stopping."


async def test_every_worker_that_answers_tells_what_it_has(fleet):
    def write(order):
        with os.fdopen(order.answer, "wb") as file:
            file.write(json.dumps([{"name": "a", "text": "x" * 300_000}]).encode())
        told.end.send(Shown(order.question))

    told = fleet.add().on(Show, write)
    gone = fleet.add().on(Show, lambda order: (os.close(order.answer), gone.die()))
    fleet.add(is_ready=False)
    shown = await fleet.changes.show()
    assert shown.keys() == {0}
    assert shown[0][0]["name"] == "a"


UNHEALTHY = Unhealthy("a", "2", "12 of 100 requests failed")


async def test_a_new_default_that_fails_is_rolled_back_once_though_all_workers_say_so(fleet, caplog):
    worker, done = fleet.add().obeys(), []
    await fleet.changes.change(lambda models: add_two(models).with_default("a", "2"))
    reports = [roll_back(fleet.changes, UNHEALTHY, lambda: done.append(1)) for _ in range(2)]
    await asyncio.gather(*reports)
    assert (fleet.stored.default_of("a"), fleet.stored.before("a"), done) == ("1", "", [1])
    assert worker.kinds == [Prepare, Commit] * 2
    assert "a 2 fails (12 of 100 requests failed): rolled back to 1" in caplog.text


async def test_without_a_version_before_there_is_no_rollback(fleet):
    worker, done = fleet.add().obeys(), []
    await fleet.changes.change(lambda models: add_two(models).with_default("a", "2").without("a", "1"))
    before = list(worker.kinds)
    await roll_back(fleet.changes, UNHEALTHY, lambda: done.append(1))
    await roll_back(fleet.changes, Unhealthy("z", "1", "gone"), lambda: done.append(1))
    assert (fleet.stored.default_of("a"), done, worker.kinds) == ("2", [], before)


async def test_a_rollback_that_fails_is_logged_and_not_counted(fleet, caplog):
    worker, done = fleet.add().obeys(), []
    await fleet.changes.change(lambda models: add_two(models).with_default("a", "2"))
    worker.on(Prepare, worker.die)
    await roll_back(fleet.changes, UNHEALTHY, lambda: done.append(1))
    assert (fleet.changes.committed.default_of("a"), done) == ("2", [])
    assert "is not rolled back: Worker 0 ended" in caplog.text


async def test_other_reports_do_not_disturb_a_change(fleet):
    worker = fleet.add().obeys(Commit)
    changing = asyncio.ensure_future(fleet.changes.change(add_two))
    order = await worker.until(Prepare)
    worker.end.send(Heartbeat())
    worker.end.send(Undone(order.change))
    worker.end.send(Prepared(order.change + 1))
    await asyncio.sleep(0.01)
    assert not changing.done()
    worker.end.send(Prepared(order.change))
    assert await changing == NEW


@pytest.mark.parametrize(("port", "writes"), [("off", False), ("0", True)])
async def test_without_management_the_journal_is_read_and_not_written(tmp_path, fleet, port, writes):
    file = tmp_path / "other.json"
    journal = Journal(file)
    journal.write(NEW)
    journal.close()
    lock = file.with_name("other.json.lock")
    lock.unlink()
    config = Config(models=ModelConfig(model_journal=file), management=ManagementConfig(management_port=port))
    changes = changes_of(config, OLD.fixed, list)
    assert changes.committed == NEW
    assert (lock.exists(), changes._journal is not None) == (writes, writes)


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({}, None),
        ({"model_store": "store"}, Path("store/models.json")),
        ({"model_store": "store", "model_journal": Path("here")}, Path("here")),
    ],
)
def test_where_the_journal_is(options, file):
    assert journal_file(ModelConfig(**options)) == file


class FakeSnapshots:
    """`written` has the kind and the versions of each."""

    def __init__(self):
        self.written = []

    def write(self, models, kind="snapshot"):
        self.written.append((kind, list(models)))


async def test_a_change_that_is_decided_while_the_service_stops_is_in_its_last_snapshot(fleet):
    worker, snapshots = fleet.add().obeys(Commit), FakeSnapshots()
    fleet.changes._snapshots = snapshots
    changing = asyncio.ensure_future(fleet.changes.change(add_two))
    order = await worker.until(Prepare)
    fleet.changes.end()
    worker.end.send(Prepared(order.change))
    assert await changing == NEW
    assert (snapshots.written[0], snapshots.written[-1]) == (("shutdown", list(OLD)), ("shutdown", list(NEW)))
