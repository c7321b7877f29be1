"""The memory for models."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from runtime.errors import NoRoom
from runtime.on_demand import OnDemand
from runtime.phases import PhaseClock
from runtime.room import Capacity
from runtime.version import Version
from tests.runtime.fakes import DoublerModel
from tests.runtime.test_store import Observer, room  # noqa: F401


class Meter:
    """Each model takes what its name says."""

    def __init__(self, takes):
        self.takes = takes

    async def measure(self, deployment):
        await deployment.start()
        return self.takes[deployment.model.facts.name]


async def ask(catalog, name, number=1):
    async with catalog.use(name) as deployment:
        return await deployment.infer(number, PhaseClock(time.monotonic))


@pytest.fixture
def make(room):  # noqa: F811
    """A catalog of models that are made when they are opened."""

    def start(capacity, takes=None):
        observer = Observer()
        catalog = OnDemand(DoublerModel, room(capacity, observer, takes and Meter(takes)))
        return catalog, observer

    return start


async def test_models_in_random_order_from_many_clients_with_room_for_a_few(make):
    catalog, observer = make(Capacity(max_models=3))
    order = random.Random(0)
    names = [order.choice("abcdefghij") for _ in range(1000)]

    async def client():
        while names:
            number = len(names)
            assert await ask(catalog, names.pop(), number) == f"got {2 * (number + 1)}"

    await asyncio.gather(*(client() for _ in range(16)))
    loaded = 0
    for event in observer.seen:
        loaded += 1 if event[0] == "+" else -1
        assert loaded <= 3
    assert loaded == 3
    assert sum(event[0] == "+" for event in observer.seen) == observer.evictions + 3


async def test_memory_is_made_by_freeing_as_much_as_is_needed(make):
    catalog, observer = make(Capacity(memory=100), {"a": 40, "b": 40, "c": 10, "d": 70, "e": 120})
    for name in "abc":
        await ask(catalog, name)
    assert observer.seen == ["+a", "+b", "+c"]
    await ask(catalog, "d")  # its size is known only when it is loaded
    assert observer.seen == ["+a", "+b", "+c", "-a", "-b", "+d"]
    with pytest.raises(NoRoom, match="There is no memory for e: it takes 0 MB"):
        await ask(catalog, "e")
    assert observer.seen == ["+a", "+b", "+c", "-a", "-b", "+d"], "nothing was freed for it"
    assert await ask(catalog, "c") == "got 4"


async def test_what_is_in_use_is_freed_after_its_use(make):
    catalog, observer = make(Capacity(max_models=1))
    async with catalog.use("a") as deployment:
        other = asyncio.ensure_future(ask(catalog, "b"))
        while catalog.peek("a"):  # until it is to go
            await asyncio.sleep(0.001)
        again = asyncio.ensure_future(ask(catalog, "a"))
        await asyncio.sleep(0)
        assert not other.done()
        assert await deployment.infer(1, PhaseClock(time.monotonic)) == "got 4"
    assert await other == "got 4"
    assert await again == "got 4"
    assert observer.seen == ["+a", "-a", "+b", "-b", "+a"]
    assert observer.evictions == 2


async def test_forgetting_reads_the_file_again(make):
    catalog, observer = make(Capacity())
    await ask(catalog, "a")
    assert await catalog.forget("./a")
    assert not await catalog.forget("a")
    await ask(catalog, "a")
    assert observer.seen == ["+a", "-a", "+a"]
    assert observer.evictions == 0


async def test_nothing_is_kept_of_models_that_do_not_open(room):  # noqa: F811
    def refuse(name):
        raise KeyError(name)

    catalog = OnDemand(refuse, room())
    for number in range(100):
        with pytest.raises(KeyError):
            await ask(catalog, f"model-{number}")
    assert catalog._known == {}


async def test_what_is_freed_again_while_requests_use_its_last_load_is_freed_as_often(room):  # noqa: F811
    observer = Observer()
    made = room(Capacity(), observer)
    version = Version("a", "1", lambda: DoublerModel("a"), is_resident=False)
    stays, freeing = [], []
    for _ in range(2):
        stays.append(made.stay_of(version))
        await stays[-1].enter(None)
        freeing.append(asyncio.ensure_future(made.free(version)))
        await asyncio.sleep(0)
    for stay in stays:
        stay.release()
    await asyncio.gather(*freeing)
    assert (list(made), observer.seen) == ([], ["+a", "+a", "-a", "-a"])
