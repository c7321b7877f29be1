"""The models in service, by name and version."""

from __future__ import annotations

import asyncio
import time

import pytest

from batching import DeadlineExceeded, QueueFull
from models.engines.base import EngineOptions
from models.errors import EngineError
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.errors import LastModel, ModelLoading, ModelUnloaded, NoWorkers, UnknownModel, VersionTaken
from runtime.phases import PhaseClock
from runtime.room import Capacity, Room
from runtime.runner import ThreadRunner
from runtime.store import ModelStore
from tests.runtime.fakes import DoublerModel


class Observer:
    def __init__(self):
        self.seen = []
        self.evictions = 0

    def of(self, facts):
        return None

    def deployed(self, deployment):
        self.seen.append(f"+{deployment.model.facts.name}")

    def removed(self, deployment):
        self.seen.append(f"-{deployment.model.facts.name}")

    def evicted(self):
        self.evictions += 1


@pytest.fixture
async def room():
    """Makes rooms."""
    pool, rooms = CpuPool(1), []

    def deploy(model, is_resident):
        return Deployment(model, ThreadRunner(model, EngineOptions()), pool, Batching(8))

    def make(capacity=None, observer=None, meter=None):
        rooms.append(Room(deploy, capacity, observer, meter))
        return rooms[-1]

    yield make
    for each in rooms:
        await each.close()
    pool.close()


@pytest.fixture
def make(room):
    def start(*models, capacity=None):
        observer = Observer()
        return ModelStore({each.facts.name: each for each in models}, room(capacity, observer)), observer

    return start


async def double(deployment, number):
    return await deployment.infer(number, PhaseClock(time.monotonic))


async def test_a_model_is_found_once_it_is_loaded(make):
    store, observer = make(DoublerModel("a"), DoublerModel("b"))
    assert store.default == "a"
    with pytest.raises(ModelLoading):
        store.find("b")
    with pytest.raises(ModelLoading):
        store.peek("b")
    with pytest.raises(UnknownModel):
        store.find("c")
    assert not store.ready
    await store.load()
    assert store.ready
    assert store.find(None).model.facts.name == "a"
    assert store.find("b") is store.loaded("b") is store.peek("b", "1")
    assert observer.seen == ["+a", "+b"]
    await store.close()
    assert observer.seen == ["+a", "+b", "-a", "-b"]
    assert not store.ready


async def test_a_model_comes_and_goes_while_others_serve(make):
    store, observer = make(DoublerModel("a"))
    await store.load()
    added = DoublerModel("b")
    deployment = await store.add("b", "1", added)
    assert store.find("b") is deployment
    await store.remove("b", "1")
    assert added.engine.calls[-1] == "close"
    with pytest.raises(UnknownModel):
        store.find("b")
    with pytest.raises(ModelUnloaded):
        await double(deployment, 1)
    assert store.ready
    assert observer.seen == ["+a", "+b", "-b"]


async def test_removing_waits_for_the_requests_that_use_the_model(make):
    store, _ = make(DoublerModel("a"), DoublerModel("b"))
    await store.load()
    async with store.use("b") as deployment, store.use("b"):
        removing = asyncio.ensure_future(store.remove("b", "1"))
        await asyncio.sleep(0.01)
        assert not removing.done()
        with pytest.raises(UnknownModel):
            async with store.use("b"):
                pass
        assert await double(deployment, 1) == "got 4"
    await removing


async def test_a_model_that_does_not_load_is_not_there(make):
    store, observer = make(DoublerModel("a"))
    await store.load()
    with pytest.raises(EngineError):
        await store.add("b", "1", DoublerModel("b", EngineError("x: damaged")))
    with pytest.raises(UnknownModel):
        store.find("b")
    with pytest.raises(VersionTaken, match="a has a version 1"):
        await store.add("a", "1", DoublerModel("a"))
    assert store.ready
    assert observer.seen == ["+a"]


async def test_of_two_additions_at_once_one_wins(make):
    store, _ = make(DoublerModel("a"))
    await store.load()
    first, second = DoublerModel("b"), DoublerModel("b")
    results = await asyncio.gather(store.add("b", "1", first), store.add("b", "1", second), return_exceptions=True)
    assert [type(each) for each in results] == [Deployment, VersionTaken]
    assert second.engine.calls[-1] == "close"
    assert first.engine.calls[-1] != "close"


async def test_while_models_load_clients_are_told_when_they_will_probably_be_loaded(make):
    store, _ = make(DoublerModel("a"))
    assert store.loading().retry_after_s == 1.0
    store.expected_at = time.monotonic() + 60
    with pytest.raises(ModelLoading) as refusal:
        store.find("a")
    assert 50 < refusal.value.retry_after_s <= 60


async def test_versions_stand_side_by_side_and_the_default_switches_at_once(make):
    store, _ = make(DoublerModel("a"))
    await store.load()
    old = store.find("a")
    new = await store.add("a", "2", DoublerModel("a", version="2"))
    assert store.find("a") is old
    assert store.find("a", "2") is new
    async with store.use("a") as used:
        store.set_default("a", "2")
        assert store.find("a") is store.find(None) is new
        assert await double(used, 1) == "got 4", "a request that has begun keeps its version"
    assert [(each.version, each.is_default, each.state) for each in store.status()] == [
        ("1", False, "loaded"),
        ("2", True, "loaded"),
    ]
    with pytest.raises(ValueError, match="version 2 is the default one of a"):
        await store.remove("a", "2")
    await store.remove("a", "1")
    with pytest.raises(UnknownModel):
        store.set_default("a", "1")
    with pytest.raises(LastModel):
        await store.remove("a", "2")
    assert store.find("a") is new


async def test_a_registered_version_is_loaded_by_its_first_request_and_once(make):
    store, observer = make(DoublerModel("a"))
    await store.load()
    model = DoublerModel("b")
    store.register("b", "1", model)
    assert store.ready
    assert store.peek("b") is None
    assert model.engine.calls == []

    async def ask():
        async with store.use("b") as deployment:
            return await double(deployment, 3)

    assert set(await asyncio.gather(*(ask() for _ in range(100)))) == {"got 8"}
    assert model.engine.calls.count("warm_up") == 1
    assert observer.seen == ["+a", "+b"]


async def test_a_client_does_not_wait_for_a_load_beyond_its_deadline(make):
    store, _ = make(DoublerModel("a"))
    await store.load()
    model = DoublerModel("b")
    model.engine.gate.clear()
    store.register("b", "1", model)
    with pytest.raises(DeadlineExceeded):
        async with store.use("b", None, time.monotonic() + 0.01):
            pass
    leaving = asyncio.ensure_future(store.use("b").__aenter__())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    model.engine.gate.set()
    async with store.use("b") as deployment:  # the load went on
        assert await double(deployment, 1) == "got 4"
    (status,) = [each for each in store.status() if each.name == "b"]
    assert (status.state, status.users) == ("loaded", 0)


async def test_a_failed_load_is_told_to_all_that_wait_and_tried_again_by_the_next(make):
    store, _ = make(DoublerModel("a"))
    await store.load()
    model = DoublerModel("b", EngineError("x: damaged"))
    store.register("b", "1", model)

    async def ask():
        async with store.use("b") as deployment:
            return await double(deployment, 3)

    results = await asyncio.gather(ask(), ask(), return_exceptions=True)
    assert [type(each) for each in results] == [EngineError] * 2
    model.error = None
    assert await ask() == "got 8"


async def test_the_version_that_was_asked_for_longest_ago_gives_way(make):
    store, observer = make(DoublerModel("a"), capacity=Capacity(max_models=2))
    await store.load()
    for name in "bcd":
        store.register(name, "1", DoublerModel(name))

    async def ask(name):
        async with store.use(name) as deployment:
            return await double(deployment, 1)

    for name in "bcbdb":
        assert await ask(name) == "got 4"
    assert observer.seen == ["+a", "+b", "+c", "-c", "+d"]
    assert [each.name for each in store.status() if each.state == "loaded"] == ["a", "b", "d"]


async def test_a_version_that_is_refused_was_never_within_reach(make):
    store, observer = make(DoublerModel("a"))
    await store.load()
    added = DoublerModel("b")

    async def refuse(deployment):
        assert await double(deployment, 1) == "got 4"
        with pytest.raises(UnknownModel):
            store.find("b")
        raise EngineError("not good enough")

    with pytest.raises(EngineError, match="not good enough"):
        await store.add("b", "1", added, refuse)
    assert added.engine.calls[-1] == "close"
    assert observer.seen == ["+a", "+b", "-b"]
    with pytest.raises(UnknownModel):
        store.find("b")


async def test_a_version_without_workers_is_known_and_refused_until_it_gets_some(make):
    store, observer = make(DoublerModel("a"))
    store._on_gone = (gone := []).append
    await store.load()
    store.register_idle("b", "1")
    assert store.ready, "it has nothing to load"
    for ask in (store.peek, store.find):
        with pytest.raises(NoWorkers):
            ask("b")
    later = DoublerModel("b")
    await store.load_idle("b", "1", later)
    with pytest.raises(NoWorkers):
        async with store.use("b"):
            pass
    store.wake("b", "1")
    async with store.use("b") as deployment:
        assert deployment.model is store.model("b") is later
        resting = asyncio.ensure_future(store.rest("b", "1"))
        await asyncio.sleep(0.01)
        with pytest.raises(NoWorkers):
            store.peek("b")
        assert not resting.done(), "a request uses it"
        assert await double(deployment, 1) == "got 4"
    await resting
    assert (later.engine.calls[-1], observer.seen) == ("close", ["+a", "+b", "-b"])
    assert gone[-1] is later, "what lies unpacked of it is removed"


async def test_a_version_that_does_not_load_has_no_workers_as_before(make):
    store, _ = make(DoublerModel("a"))
    store.register_idle("b", "1")
    with pytest.raises(EngineError):
        await store.load_idle("b", "1", DoublerModel("b", error=EngineError("no engine")))
    with pytest.raises(NoWorkers):
        store.peek("b")
    await store.load_idle("b", "1", DoublerModel("b"))
    store.wake("b", "1")
    assert await double(store.find("b"), 1) == "got 4"


async def test_the_status_tells_who_waits_and_which_versions_have_no_workers(make):
    store, _ = make(DoublerModel("a"))
    store.register_idle("b", "1")
    await store.load()
    found = {each.name: each.to_json() for each in store.status()}
    assert [(name, each["state"], each["queued"], each["pids"]) for name, each in found.items()] == [
        ("a", "loaded", 0, []),
        ("b", "idle", 0, []),
    ]


@pytest.fixture
async def expecting(make):
    """A store with a version `b` for whose workers requests wait, at most three."""
    store, _ = make(DoublerModel("a"))
    store._most_waiting = 3
    store.register_idle("b", "1")
    store.expect("b", "1", workers=True)
    return store


async def ask_when_there_are_workers(store, deadline=None):
    assert store.peek("b") is None
    await store.until_workers("b", None, deadline)
    async with store.use("b") as deployment:
        return await double(deployment, 1)


async def test_requests_wait_for_workers_and_are_answered(expecting):
    asking = [asyncio.ensure_future(ask_when_there_are_workers(expecting)) for _ in range(3)]
    await asyncio.sleep(0)
    (state,) = [each.state for each in expecting.status() if each.name == "b"]
    assert state == "loading"
    with pytest.raises(QueueFull):
        await ask_when_there_are_workers(expecting)
    asking.pop().cancel()
    await asyncio.sleep(0)
    asking.append(asyncio.ensure_future(ask_when_there_are_workers(expecting)))
    await expecting.load_idle("b", "1", DoublerModel("b"))
    assert not any(each.done() for each in asking), "no request reaches them before the commit"
    expecting.wake("b", "1")
    assert await asyncio.gather(*asking) == ["got 4"] * 3
    await expecting.until_workers("b", "1", None)


async def test_a_request_waits_for_workers_until_its_deadline(expecting):
    with pytest.raises(DeadlineExceeded):
        await ask_when_there_are_workers(expecting, time.monotonic() + 0.01)
    with pytest.raises(DeadlineExceeded):
        await ask_when_there_are_workers(expecting, time.monotonic() - 1)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await ask_when_there_are_workers(expecting, 0)


@pytest.mark.parametrize("how", ["none", "not any more", "removed"])
async def test_requests_that_wait_for_workers_in_vain_are_refused(expecting, how):
    asking = asyncio.ensure_future(ask_when_there_are_workers(expecting))
    await asyncio.sleep(0)
    if how == "removed":
        await expecting.remove("b", "1")
    elif how == "none":  # the process ends
        expecting.expect_none()
    else:
        expecting.expect("b", "1", workers=False)
    with pytest.raises(NoWorkers):
        await asking


async def test_requests_go_on_waiting_for_workers_though_a_process_has_undone_its_part(expecting):
    asking = asyncio.ensure_future(ask_when_there_are_workers(expecting))
    await expecting.load_idle("b", "1", DoublerModel("b"))
    await expecting.rest("b", "1")
    assert not asking.done()
    await expecting.load_idle("b", "1", DoublerModel("b"))
    expecting.wake("b", "1")
    assert await asking == "got 4"
