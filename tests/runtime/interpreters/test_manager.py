"""Sessions, objects and replicas of a manager, and what code in an interpreter may do to it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest
import torch

from runtime.interpreters import (
    InterpreterEnded,
    InterpreterError,
    InterpreterManager,
    NoSuchAttribute,
)
from tests.processes import outlive
from tests.runtime.interpreters.conftest import write_source


@pytest.fixture
def counter(manager, packages):
    return manager.load_package(packages / "counter").load_pickle("model", "model.pkl")


def on(manager, number, counter, *args):
    return counter.to_obj(manager[number])(*args).deref()


def test_no_manager_of_nothing():
    with pytest.raises(ValueError, match="0 interpreters"):
        InterpreterManager(0)


def test_only_interpreters_that_exist(manager):
    for wrong in (3, -4):
        with pytest.raises(IndexError):
            manager[wrong]
    for wrong in (0, 4):
        with pytest.raises(ValueError, match="cannot take part"):
            manager.debug_limit(wrong)


def test_a_replica_is_unpickled_once_and_keeps_its_state(manager, counter):
    assert [on(manager, 0, counter) for _ in range(3)] == [1, 2, 3]
    assert on(manager, 1, counter) == 1, "a change is seen only where it was made"
    counter.unload(0)
    assert [on(manager, 0, counter), on(manager, 1, counter)] == [1, 2]
    counter.unload()
    assert [on(manager, 0, counter), on(manager, 1, counter)] == [1, 1]


def test_storages_are_shared_by_replicas_and_with_the_caller(manager, counter):
    seen = counter.to_obj(manager[0])("add", 1, 5).deref()
    assert seen.tolist() == [0, 5, 0]
    assert on(manager, 1, counter, "add", 2, 7).tolist() == [0, 5, 7]
    assert seen.tolist() == [0, 5, 7]
    seen[1] = -1
    assert on(manager, 2, counter, "tail") == [-1, 7], "a view within the object stays one"


def test_an_argument_shares_its_memory_too(manager):
    given = torch.zeros(4)
    view = given[2:]
    manager[0].global_("torch.nn.init", "ones_")(view)
    assert given.tolist() == [0, 0, 1, 1]
    remote = manager[0].from_value(given)
    given[0] = 9
    assert remote[0].item().deref() == 9


def test_a_replica_in_use_spreads_over_the_interpreters(manager, counter):
    with counter.acquire_session() as first, counter.acquire_session() as second:
        assert {first.interpreter.number, second.interpreter.number, counter("interpreter")} == {0, 1, 2}


def test_values_that_cross(manager):
    session = manager.acquire_one()
    values = [None, True, 2**70, 1.5, "é\ud800", b"\0", (), [], {}, {1: {2}}, 1j, torch.Size([2]), torch.int8]
    values += [torch.device("cpu"), [(1, [2])], frozenset({1}), bytearray(b"x"), np.float32(2)]
    for value in values:
        back = session.from_value(value).deref()
        assert back == value and type(back) is type(value)
    array = session.from_value(np.arange(6, dtype=">i2").reshape(2, 3)).deref()
    assert array.dtype == ">i2" and array.tolist() == [[0, 1, 2], [3, 4, 5]]
    for tensor in (
        torch.empty(0, 3),
        torch.tensor(2),
        torch.ones(2, dtype=torch.bfloat16),
        torch.arange(6.0)[::2],
    ):
        assert torch.equal(session.from_value(tensor).deref(), tensor)
    conjugated = torch.tensor([1 + 2j]).conj()
    assert torch.equal(session.from_value(conjugated).deref(), conjugated.resolve_conj())
    grad = session.from_value(torch.ones(1, requires_grad=True) * 2).deref()
    assert type(session.from_value(torch.nn.Parameter(grad)).deref()) is torch.Tensor and not grad.requires_grad


@pytest.mark.parametrize("value", [object(), torch.eye(2).to_sparse(), np.array([None]), [print]])
def test_values_that_do_not(manager, value):
    with pytest.raises(InterpreterError, match="cannot cross"):
        manager[0].from_value(value)


def test_a_value_that_does_not_come_out_stays(manager, counter):
    with pytest.raises(InterpreterError, match=r"builtins\.object cannot cross"):
        counter("outside")
    assert counter("nested") == {"parts": [(1, 2.5), [], {"x": {1}}], b"raw": None}


def test_attributes_and_items(manager):
    torch_ = manager[0].global_("torch", "version")
    assert not hasattr(torch_, "no_such") and torch_.hasattr("interp") and torch_.interp.deref() == 0
    with pytest.raises(NoSuchAttribute, match="no_such"):
        _ = torch_.no_such
    with pytest.raises(TypeError):
        iter(torch_)
    assert manager[0].from_value({"a": [1, 2]})["a"][1].deref() == 2
    with pytest.raises(InterpreterError, match="KeyError") as caught:
        _ = manager[0].from_value({})["a"]
    assert caught.value.kind == "KeyError"


def test_objects_are_arguments_on_their_own_interpreter_only(manager):
    here, there = manager[0], manager[1]
    numbers = here.from_value([3, 1, 2])
    assert here.global_("builtins", "sorted")(numbers).deref() == [1, 2, 3]
    assert here.global_("builtins", "len")([numbers, numbers]).deref() == 2
    with pytest.raises(InterpreterError, match="another interpreter"):
        there.global_("builtins", "sorted")(numbers)


def test_an_object_that_outlives_its_session(manager):
    with manager.acquire_one() as session:
        length = session.global_("builtins", "len")
    for use in (
        lambda: length([]),
        length.deref,
        lambda: length.x,
        lambda: length.hasattr("x"),
        session.from_value,
    ):
        with pytest.raises((InterpreterError, TypeError)):
            use()
    with pytest.raises(InterpreterError, match="the session is closed"):
        session.global_("builtins", "len")


def test_objects_are_let_go(manager):
    manager.register_module_source("weak_module", "class C: pass\nimport weakref\nalive = weakref.WeakSet()\n")
    session = manager[0]
    alive = session.global_("weak_module", "alive")
    made = session.global_("weak_module", "C")()
    alive.add(made)
    count = session.global_("builtins", "len")
    assert count(alive).deref() == 1
    del made
    assert count(alive).deref() == 0


def test_a_registered_module_is_replaced_where_it_was_not_imported(manager):
    manager.register_module_source("late_module", "x = 1")
    assert manager[0].global_("late_module", "x").deref() == 1
    manager.register_module_source("late_module", "x = 2")
    assert [manager[number].global_("late_module", "x").deref() for number in range(2)] == [1, 2]
    names = manager[0].global_("argument_names", "argument_names")
    assert names(manager[0].global_("textwrap", "shorten")).deref() == ["text", "width", "kwargs"]


def test_packages_do_not_see_each_other(manager, tmp_path):
    opened = [manager.load_package(write_source(tmp_path / f"p{x}", f"x = {x}")) for x in range(2)]
    sessions = [each.acquire_session() for each in opened]
    assert [each.self.import_module("m").x.deref() for each in sessions] == [0, 1]


def test_no_package(manager, tmp_path):
    with pytest.raises(InterpreterError, match="No such file"):
        manager.load_package(tmp_path / "none")
    (tmp_path / "broken").write_bytes(b"PK broken")
    with pytest.raises(InterpreterError, match="RuntimeError"):
        manager.load_package(tmp_path / "broken")


def test_a_package_that_changes_is_refused_where_it_is_not_open_yet(manager, tmp_path):
    package = manager.load_package(write_source(tmp_path / "p", "x = 1"))
    first = package.acquire_session()
    write_source(tmp_path / "other", "x = 2")
    (tmp_path / "other").replace(tmp_path / "p")
    with contextlib.ExitStack() as stack, pytest.raises(InterpreterError, match="has changed since it was opened"):
        for _ in range(3):
            stack.enter_context(package.acquire_session())
    assert first.self.import_module("m").x.deref() == 1


HARM = """
import ctypes, os, sys, time

def prints(): print("x" * 100_000); sys.stderr.write("y"); return 1
def raises(): raise RuntimeError("deep" * 10_000)
def unprintable():
    class E(Exception):
        def __str__(self): raise ValueError
    raise E
def exits(): sys.exit(3)
def interrupts(): raise KeyboardInterrupt
def forks(): return os.fork() and 1
def closes(): os.closerange(3, 256)
def ends(): os._exit(3)
def crashes(): ctypes.string_at(0)
def waits(): time.sleep(600)
def recurses(): return recurses()
"""


@pytest.fixture
def harm(manager, tmp_path):
    package = manager.load_package(write_source(tmp_path / "harm", HARM))
    with package.acquire_session() as session:
        yield lambda name: session.self.import_module("m").attr(name)()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "RuntimeError: deep"),
        ("unprintable", "its text cannot be had"),
        ("exits", "SystemExit: 3"),
        ("interrupts", "KeyboardInterrupt"),
        ("recurses", "RecursionError"),
    ],
)
def test_code_that_raises_or_exits_fails_its_call(manager, harm, counter, name, words):
    pids = [each.pid for each in manager.interpreters]
    with pytest.raises(InterpreterError, match=words):
        harm(name)
    assert counter() == 1 and [each.pid for each in manager.interpreters] == pids


@pytest.mark.parametrize("name", ["prints", "forks"])
def test_code_that_prints_or_forks_disturbs_nothing(manager, harm, counter, name):
    pids = [each.pid for each in manager.interpreters]
    assert harm(name).deref() == 1
    assert [on(manager, number, counter) for number in range(3)] == [1, 1, 1]
    assert [each.pid for each in manager.interpreters] == pids


@pytest.mark.parametrize(("name", "how"), [("ends", "exit code 3"), ("crashes", "SIGSEGV"), ("closes", "")])
def test_a_process_that_ends_is_replaced(manager, harm, counter, name, how):
    with manager[0] as session:
        assert [on(manager, number, counter) for number in range(3)] == [1, 1, 1]
        mine = session.from_value(1)
        pids = [each.pid for each in manager.interpreters]
        with pytest.raises(InterpreterEnded, match=f"its process ended: .*{how}"):
            harm(name)
        counts = [on(manager, number, counter) for number in range(3)]
        assert sorted(counts) == [1, 2, 2], "the copy of one is lost and unpickled again"
        lost = counts.index(1)
        assert [each.pid == pid for each, pid in zip(manager.interpreters, pids, strict=True)].count(False) == 1
        if lost == 0:
            with pytest.raises(InterpreterEnded, match="the object is gone"):
                mine.deref()
    assert manager[lost].global_("torch", "version").interp.deref() == lost


def test_an_idle_process_that_is_killed_fails_no_call(manager, counter):
    number = counter("interpreter")
    interpreter = manager.interpreters[number]
    os.kill(interpreter.pid, signal.SIGKILL)
    while interpreter._process.is_running:
        time.sleep(0.01)
    assert on(manager, number, counter) == 1


def test_the_spare_process_is_replaced_with_all_interpreters(manager, counter):
    spare = psutil.Process(manager.interpreters[0].pid).parent()
    spare.kill()
    spare.wait()
    for number in range(3):
        with contextlib.suppress(InterpreterEnded):
            on(manager, number, counter)
    assert [on(manager, number, counter, "interpreter") for number in range(3)] == [0, 1, 2]


def test_closing_ends_a_call_and_leaves_no_process(processes):
    manager = InterpreterManager(1)
    session = manager.acquire_one()
    failed = []

    def call():
        try:
            session.global_("time", "sleep")(600)
        except InterpreterError as error:
            failed.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    while not manager.interpreters[0]._lock.locked():
        time.sleep(0.01)
    assert processes()
    manager.close()
    thread.join(30)
    assert failed and outlive(processes()) == []
    with pytest.raises(InterpreterError, match="the manager is closed"):
        session.global_("time", "sleep")
    manager.close()


def test_descriptors_do_not_leak(manager, counter, packages):
    def use():
        model = manager.load_package(packages / "simple").load_pickle("model", "model.pkl")
        for number in range(3):
            model.to_obj(manager[number])(torch.ones(10, 20)).deref()
            manager[number].from_value([np.ones(3), b"x", torch.ones(3)]).deref()
        with pytest.raises(InterpreterError):
            model("x")

    def held():
        gc.collect()
        for number in range(3):
            manager[number].global_("gc", "collect")()  # with it goes what was dropped
        pids = [os.getpid(), *(each.pid for each in manager.interpreters)]
        return [psutil.Process(pid).num_fds() for pid in pids]

    use()
    before = held()
    for _ in range(3):
        use()
    assert all(now <= then + 2 for now, then in zip(held(), before, strict=True)), (before, held())
