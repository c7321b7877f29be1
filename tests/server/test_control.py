"""One process goes from one set of models to the next, or stays where it is."""

from __future__ import annotations

import asyncio

import pytest

from models.engines.base import EngineOptions
from models.errors import BundleError, EngineError, ModelError
from runtime.added_model import ARCHIVE, AddedModel, ArchiveAsked, GoldenAsked
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.errors import ChangeFailed, ModelRefused, UnknownModel
from runtime.model_set import ModelSet, Shadow
from runtime.room import Room
from runtime.runner import ThreadRunner
from runtime.store import ModelStore
from server.control import Control
from tests.runtime.fakes import DoublerModel
from tests.server.test_classify import until


class FakeStore:
    """Notes what is asked of it, in words; knows what is loaded, and which version is the default."""

    def __init__(self, *loaded):
        self.loaded, self.registered, self.defaults = list(loaded), [], dict(loaded)
        self.processes, self.broken, self.first = {}, set(), []
        self.idle = {}  # has no workers: whether it is loaded
        self.expected = set()  # requests wait for their workers
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self):
        self.loaded += self.first

    async def add(self, name, version, model, judge=None):
        await self.gate.wait()
        if version in self.broken:
            raise EngineError(f"{name}: no engine")
        if judge:
            await judge(f"deployment of {model}")
        self.loaded.append((name, version))
        self.defaults.setdefault(name, version)
        return f"deployment of {model}"

    def register(self, name, version, model):
        self.registered.append((name, version))

    def register_idle(self, name, version):
        self.idle[name, version] = False

    def is_awake(self, name, version):
        return (name, version) in self.loaded

    async def load_idle(self, name, version, model):
        if version in self.broken:
            raise EngineError(f"{name}: no engine")
        self.idle[name, version] = True

    def expect(self, name, version, workers):
        assert (name, version) in self.idle
        (self.expected.add if workers else self.expected.discard)((name, version))

    def wake(self, name, version):
        self.expected.discard((name, version))
        assert self.idle.pop((name, version))
        self.loaded.append((name, version))

    async def rest(self, name, version):
        if (name, version) in self.loaded:
            self.loaded.remove((name, version))
        self.idle[name, version] = False

    async def remove(self, name, version):
        (self.loaded if (name, version) in self.loaded else self.registered).remove((name, version))

    def set_default(self, name, version):
        self.defaults[name] = version

    async def scale(self, name, version, processes):
        self.processes[name, version] = processes

    def status(self):
        return []


class FakeGuard:
    def __init__(self):
        self.seen, self.judged, self.verdict = [], [], None

    async def judge(self, deployment, rules):
        self.judged.append((deployment, rules))
        if self.verdict:
            raise BundleError(self.verdict)

    def begin(self):
        pass

    def renew(self, name):
        self.seen.append(("renew", name))

    def watch(self, name, version):
        self.seen.append(("watch", name, version))

    def shadow(self, name, shadow):
        self.seen.append(("shadow", name, shadow))


def open_model(name, version, added):
    return added.path if added else f"bundle of {name}"


BEFORE = ModelSet(("a",))
TWO = AddedModel("a", "2", "new")
THREE = AddedModel("a", "3", "newer")


@pytest.fixture
async def store():
    return FakeStore(("a", "1"))


@pytest.fixture
def guard():
    return FakeGuard()


@pytest.fixture
def control(store, guard):
    return Control(store, open_model, BEFORE, guard, processes=4)


async def test_a_new_version_is_loaded_first_and_served_at_the_commit(control, store):
    await control.prepare(BEFORE.with_model(TWO).with_default("a", "2").without("a", "1"))
    assert (store.loaded, store.defaults) == ([("a", "1"), ("a", "2")], {"a": "1"})
    await control.commit()
    assert (store.loaded, store.defaults) == ([("a", "2")], {"a": "2"})
    assert list(control.committed) == [("a", "2")]


async def test_undoing_frees_what_was_loaded_and_puts_processes_back(control, store):
    await control.prepare(BEFORE.with_model(TWO).scaled("a", "1", 3))
    assert store.processes == {("a", "1"): 3}
    await control.undo()
    assert (store.loaded, store.processes, control.committed) == ([("a", "1")], {("a", "1"): 4}, BEFORE)
    await control.prepare(BEFORE.with_model(TWO))  # the next change finds it as it was
    await control.commit()
    assert store.loaded == [("a", "1"), ("a", "2")]


async def test_a_set_of_which_one_model_does_not_load_leaves_nothing_behind(control, store):
    store.broken.add("3")
    with pytest.raises(ModelRefused, match="a: no engine"):
        await control.prepare(BEFORE.with_model(TWO).with_model(THREE))
    assert store.loaded == [("a", "1")]
    await control.prepare(BEFORE)  # nothing is left prepared


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (BundleError("x: damaged"), ModelRefused, "x: damaged"),
        (UnknownModel("No such model."), UnknownModel, "No such model."),
        (ZeroDivisionError("by zero"), ModelRefused, "ZeroDivisionError: by zero"),
    ],
)
async def test_what_the_opening_of_a_model_raises_is_told(store, raised, expected, text):
    def fail(*_):
        raise raised

    control = Control(store, fail, BEFORE, FakeGuard())
    with pytest.raises(expected, match=text):
        await control.prepare(BEFORE.with_model(TWO))
    assert store.loaded == [("a", "1")]


async def test_a_model_on_use_is_opened_and_not_loaded(control, store):
    await control.prepare(BEFORE.with_model(AddedModel("b", "1", "later", on_use=True)))
    assert (store.loaded, store.registered) == ([("a", "1")], [("b", "1")])
    await control.undo()
    assert store.registered == []


async def test_a_version_that_fails_its_golden_set_stays_out(control, store, guard):
    rules, guard.verdict = GoldenAsked(least_agreement=0.9), "agreement 0.12, 0.9 is needed"
    models = BEFORE.with_model(AddedModel("a", "2", "new", golden=rules))
    with pytest.raises(ModelRefused, match=r"agreement 0\.12, 0\.9 is needed"):
        await control.prepare(models)
    assert guard.judged == [("deployment of new", rules)]
    assert store.loaded == [("a", "1")]
    guard.verdict = None
    await control.prepare(models)
    assert store.loaded == [("a", "1"), ("a", "2")]


async def test_every_version_that_is_loaded_is_judged_and_none_at_a_start(control, store, guard):
    await control.prepare(BEFORE.with_model(TWO).with_model(AddedModel("b", "1", "later", on_use=True)))
    assert guard.judged == [("deployment of new", None)]
    await Control(FakeStore(), open_model, BEFORE.with_model(TWO), guard).start()
    assert len(guard.judged) == 1


async def test_new_defaults_are_watched_and_shadows_begin_and_end(control, guard):
    shadowed = BEFORE.with_model(TWO).with_shadow("a", Shadow("2", 0.1))
    await control.prepare(shadowed)
    await control.commit()
    assert guard.seen == [("shadow", "a", Shadow("2", 0.1))]
    await control.prepare(shadowed.with_default("a", "2"))
    await control.commit()
    assert guard.seen[1:] == [("watch", "a", "2"), ("shadow", "a", None)]


async def test_undoing_a_change_that_is_still_loading_ends_it_after_that_step(control, store):
    store.gate.clear()
    preparing = asyncio.ensure_future(control.prepare(BEFORE.with_model(TWO).with_model(THREE)))
    await asyncio.sleep(0.05)
    undoing = asyncio.ensure_future(control.undo())
    await asyncio.sleep(0)
    store.gate.set()
    await undoing
    with pytest.raises(ChangeFailed):
        await preparing
    assert store.loaded == [("a", "1")]


async def test_a_process_starts_with_the_committed_set(guard):
    models = (
        BEFORE.with_model(TWO)
        .with_model(THREE)
        .with_model(AddedModel("b", "1", "later", on_use=True))
        .with_model(AddedModel("c", "1", "x", golden=GoldenAsked()))
        .with_default("a", "2")
        .with_shadow("a", Shadow("3", 0.5))
        .scaled("a", "1", 2)
    )
    store = FakeStore()
    store.first = list(models.first())
    assert store.first == [("a", "2"), ("c", "1")], "so that requests meet the default version, loading or loaded"
    control = Control(store, open_model, models, guard)
    await control.start()
    assert sorted(store.loaded) == [("a", "1"), ("a", "2"), ("a", "3"), ("c", "1")]
    assert (store.registered, store.defaults) == ([("b", "1")], {"a": "2", "b": "1", "c": "1"})
    assert (store.processes, guard.seen) == ({("a", "1"): 2}, [("shadow", "a", Shadow("3", 0.5))])
    await control.prepare(models.without("a", "1"))
    await control.commit()
    assert ("a", "1") not in store.loaded


async def test_a_start_without_the_files_of_an_added_model_says_so(store):
    def fail(*_):
        raise UnknownModel("No model of that name is in the store.")

    control = Control(store, fail, BEFORE.with_model(TWO), FakeGuard())
    with pytest.raises(ModelError, match="added while the server ran: No model"):
        await control.start()


IDLE = AddedModel("c", "1", "c.mar", kind=ARCHIVE, archive=ArchiveAsked())


@pytest.fixture
async def at_rest(control, store):
    """A control whose set has an archive without workers."""
    await control.prepare(BEFORE.with_model(IDLE))
    await control.commit()
    assert (store.loaded, store.idle) == ([("a", "1")], {("c", "1"): False})
    return control


async def test_an_archive_is_loaded_when_it_gets_workers_and_freed_when_it_has_none(at_rest, store, guard):
    models = at_rest.committed.scaled("c", "1", 2)
    await at_rest.prepare(models)
    assert (store.loaded, store.idle) == ([("a", "1")], {("c", "1"): True}), "no request reaches it yet"
    await at_rest.commit()
    assert (store.loaded, store.idle) == ([("a", "1"), ("c", "1")], {})
    await at_rest.prepare(models.scaled("c", "1", 0))
    assert store.loaded == [("a", "1"), ("c", "1")]
    await at_rest.commit()
    assert (store.loaded, store.idle) == ([("a", "1")], {("c", "1"): False})
    assert guard.seen == [("watch", "c", "1"), ("renew", "c"), ("renew", "c")]


async def test_an_archive_that_does_not_load_is_without_workers_as_before(at_rest, store):
    before = at_rest.committed
    store.broken.add("1")
    with pytest.raises(ModelRefused, match="c: no engine"):
        await at_rest.prepare(before.scaled("c", "1", 2))
    assert (store.idle, at_rest.committed) == ({("c", "1"): False}, before)
    store.broken.clear()
    await at_rest.prepare(before.scaled("c", "1", 2))
    await at_rest.undo()
    assert store.idle == {("c", "1"): False}, "what was loaded is freed"


async def test_the_processes_of_an_archive_are_divided_among_the_workers_of_the_server(store, guard):
    models = BEFORE.with_model(IDLE).scaled("c", "1", 3)
    store.first = [("c", "1")]
    control = Control(store, open_model, models, guard, workers=2)
    await control.start()
    await control.prepare(models.scaled("c", "1", 5))
    assert store.processes == {("c", "1"): 3}
    await control.undo()
    assert store.processes == {("c", "1"): 2}


async def test_a_start_loads_no_archive_without_workers(store, guard):
    control = Control(store, open_model, BEFORE.with_model(IDLE), guard)
    await control.start()
    assert (store.loaded, store.idle) == ([("a", "1")], {("c", "1"): False})


async def test_an_archive_that_does_not_load_at_the_start_is_without_workers_until_it_does(store, guard):
    models = BEFORE.with_model(IDLE).scaled("c", "1", 1)
    store.broken.add("1")
    with pytest.raises(EngineError, match="c: no engine"):
        await Control(store, open_model, models, guard).start()
    control = Control(store, open_model, models, guard, revives=True)
    await control.start()
    assert (store.loaded, store.idle) == ([("a", "1")], {("c", "1"): False})
    store.broken.clear()
    await until(lambda: store.idle == {})
    assert store.loaded == [("a", "1"), ("c", "1")]


async def test_requests_wait_for_workers_from_the_commit_that_promises_them(at_rest, store):
    promised = at_rest.committed.starting("c", "1", 1)
    await at_rest.prepare(promised)
    assert store.expected == set()
    await at_rest.commit()
    assert (store.expected, store.idle) == ({("c", "1")}, {("c", "1"): False}), "nothing is loaded"
    store.broken.add("1")
    with pytest.raises(ModelRefused):
        await at_rest.prepare(promised.started("c", "1"))
    assert store.expected == {("c", "1")}, "whether they still wait is another change's to say"
    await at_rest.prepare(promised.not_started("c", "1", removes=False))
    await at_rest.commit()
    assert store.expected == set()
    store.broken.clear()
    for models in (promised, promised.started("c", "1")):
        await at_rest.prepare(models)
        await at_rest.commit()
    assert (store.expected, store.loaded) == (set(), [("a", "1"), ("c", "1")])


async def test_a_worker_that_starts_meanwhile_lets_requests_wait_too(store, guard):
    promised = BEFORE.with_model(IDLE).starting("c", "1", 1)
    control = Control(store, open_model, promised, guard)
    await control.start()
    assert (store.loaded, store.expected) == ([("a", "1")], {("c", "1")})
    await control.prepare(promised.started("c", "1"))
    await control.commit()
    assert (store.loaded, store.expected) == ([("a", "1"), ("c", "1")], set())


async def test_all_versions_of_a_model_go_at_once(guard):
    models = {name: DoublerModel(name) for name in "ab"}
    pool = CpuPool(1)

    def deploy(model, is_resident):
        return Deployment(model, ThreadRunner(model, EngineOptions()), pool, Batching(8))

    store = ModelStore(models, Room(deploy))
    control = Control(
        store, lambda name, version, _: DoublerModel(name, version=version), ModelSet(("a", "b")), guard
    )
    await control.start()
    two = control.committed.with_model(AddedModel("b", "2", "x"))
    for committed in (two, two.without("b", "2").without("b", "1")):
        await control.prepare(committed)
        await control.commit()
    assert [(each.name, each.version) for each in store.status()] == [("a", "1")]
    await store.close()
    pool.close()
