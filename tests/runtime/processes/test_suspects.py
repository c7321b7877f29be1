"""Which items are not given to an engine any more."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import EngineDied, EngineTimeout
from runtime.processes import suspects as module
from runtime.processes.suspects import REFUSED_S, SuspectInBatch, Suspects

A, B, C = (np.full((4, 4, 3), value, np.uint8) for value in (1, 2, 3))


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def suspects(now):
    return Suspects(lambda: now[0])


def test_without_a_death_nothing_is_suspect(suspects):
    assert suspects.check([A, B]) is False


def test_the_items_of_a_batch_that_died_run_alone_until_they_run_well(suspects):
    suspects.add([A, B], EngineDied("x"))
    with pytest.raises(SuspectInBatch):
        suspects.check([C, B.copy()])
    assert suspects.check([C]) is False
    assert suspects.check([B.copy()]) is True
    suspects.clear([B])
    assert suspects.check([C, B]) is False


@pytest.mark.parametrize("kind", [EngineDied, EngineTimeout])
def test_what_has_ended_two_processes_is_refused_for_ten_minutes(suspects, now, kind):
    suspects.add([A, B], kind("it ended"))
    suspects.add([A], kind("it ended"))
    with pytest.raises(kind, match="refused"):
        suspects.check([A.copy()])
    assert suspects.check([B]) is True
    now[0] += REFUSED_S
    assert suspects.check([A]) is False


def test_arguments_are_told_apart_by_every_part_of_them(suspects):
    item = (A, {"n": 1}, [b"x"])
    suspects.add([item], EngineDied("x"))
    assert suspects.check([(A.copy(), {"n": 1}, [b"x"])]) is True
    for other in (
        (B, {"n": 1}, [b"x"]),
        (A, {"n": 2}, [b"x"]),
        (A, {"n": 1}, [b"y"]),
        (A.view(np.int8), *item[1:]),
    ):
        assert suspects.check([other]) is False


def test_an_item_that_is_twice_in_a_batch_has_ended_one_process(suspects):
    assert suspects.add([A, A.copy(), B], EngineDied("x")) == 1
    assert suspects.check([A]) is True


def test_an_item_that_has_never_ended_a_process_alone_is_not_refused(suspects):
    for _ in range(2):  # in two processes at the same time
        suspects.add([A, B], EngineDied("x"))
    assert suspects.check([A]) is True


def test_the_table_is_bounded_and_forgets_the_oldest(suspects, monkeypatch):
    monkeypatch.setattr(module, "_MOST_SUSPECTS", 2)
    suspects.add([b"a", b"b", b"c"], EngineDied("x"))
    assert [suspects.check([each]) for each in (b"a", b"b", b"c")] == [False, True, True]


def test_items_that_are_alike_are_told_apart(suspects):
    large = np.zeros(100_000, np.uint8)
    other = large.copy()
    other[50_001] = 1
    suspects.add([large], EngineDied("x"))
    assert suspects.check([other]) is False
    assert suspects.check([large.copy()]) is True


def test_items_may_be_anything_that_can_be_sent(suspects):
    items = [{"a": 1}, b"bytes", np.float32(1.0), np.zeros((0, 2)), np.asfortranarray(np.eye(3))]
    suspects.add(items, EngineDied("x"))
    assert all(suspects.check([item]) for item in items)
