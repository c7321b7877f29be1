"""The models in service, by name."""

from __future__ import annotations

import asyncio
import time

import pytest

from models.engines.base import EngineOptions
from models.errors import EngineError
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.errors import ModelLoading, ModelUnloaded, UnknownModel
from runtime.phases import PhaseClock
from runtime.runner import ThreadRunner
from runtime.store import ModelStore
from tests.runtime.fakes import DoublerModel


class Observer:
    def __init__(self):
        self.seen = []

    def of(self, model):
        return None

    def deployed(self, model, deployment):
        self.seen.append(f"+{model}")

    def removed(self, model):
        self.seen.append(f"-{model}")


@pytest.fixture
async def make():
    pool, stores = CpuPool(1), []

    def deploy(model):
        return Deployment(model, ThreadRunner(model, EngineOptions()), pool, Batching(8))

    def start(*models):
        observer = Observer()
        store = ModelStore({each.facts.name: each for each in models}, deploy, observer)
        stores.append(store)
        return store, observer

    yield start
    for store in stores:
        await store.close()
    pool.close()


async def test_a_model_is_found_once_it_is_loaded(make):
    store, observer = make(DoublerModel("a"), DoublerModel("b"))
    assert store.default == "a"
    with pytest.raises(ModelLoading):
        store.find("b")
    with pytest.raises(UnknownModel):
        store.find("c")
    assert not store.ready
    await store.load()
    assert store.ready
    assert store.find(None).model.facts.name == "a"
    assert store.find("b") is store.loaded("b")
    assert observer.seen == ["+a", "+b"]
    await store.close()
    assert observer.seen == ["+a", "+b", "-a", "-b"]
    assert not store.ready


async def test_a_model_comes_and_goes_while_others_serve(make):
    store, observer = make(DoublerModel("a"))
    await store.load()
    added = DoublerModel("b")
    deployment = await store.add("b", added)
    assert store.find("b") is deployment
    await store.remove("b")
    assert added.engine.calls[-1] == "close"
    with pytest.raises(UnknownModel):
        store.find("b")
    with pytest.raises(ModelUnloaded):
        await deployment.infer(1, PhaseClock(time.monotonic))
    assert store.ready
    assert observer.seen == ["+a", "+b", "-b"]


async def test_removing_waits_for_the_requests_that_use_the_model(make):
    store, _ = make(DoublerModel("a"), DoublerModel("b"))
    await store.load()
    async with store.use("b") as deployment, store.use("b"):
        removing = asyncio.ensure_future(store.remove("b"))
        await asyncio.sleep(0.01)
        assert not removing.done()
        with pytest.raises(UnknownModel):
            async with store.use("b"):
                pass
        assert await deployment.infer(1, PhaseClock(time.monotonic)) == "got 4"
    await removing


async def test_a_model_that_does_not_load_is_not_there(make):
    store, observer = make(DoublerModel("a"))
    await store.load()
    with pytest.raises(EngineError):
        await store.add("b", DoublerModel("b", EngineError("x: damaged")))
    with pytest.raises(UnknownModel):
        store.find("b")
    with pytest.raises(ValueError, match="a is in service"):
        await store.add("a", DoublerModel("a"))
    assert store.ready
    assert observer.seen == ["+a"]


async def test_while_models_load_clients_are_told_when_they_will_probably_be_loaded(make):
    store, _ = make(DoublerModel("a"))
    assert store.loading().retry_after_s == 1.0
    store.expected_at = time.monotonic() + 60
    with pytest.raises(ModelLoading) as refusal:
        store.find("a")
    assert 50 < refusal.value.retry_after_s <= 60
