"""BatchTime."""

from __future__ import annotations

import pytest

from batching.batch_time import BatchTime


def test_nothing_before_a_batch_ran():
    assert BatchTime().of(8) == 0.0


def test_in_proportion_where_all_batches_have_one_size():
    time = BatchTime()
    for _ in range(5):
        time.add(4, 0.2)
    assert time.of(4) == pytest.approx(0.2)
    assert time.of(8) == pytest.approx(0.4)
    assert time.of(0) == 0.0


def test_what_a_batch_costs_by_itself_is_told_from_what_an_item_costs():
    time = BatchTime()
    for size in (1, 8, 2, 7, 3, 6) * 20:
        time.add(size, 0.010 + 0.001 * size)
    assert time.of(1) == pytest.approx(0.011, rel=0.02)
    assert time.of(32) == pytest.approx(0.042, rel=0.02)


def test_follows_an_engine_that_becomes_slower():
    time = BatchTime()
    for _ in range(50):
        time.add(4, 0.1)
    for _ in range(50):
        time.add(4, 0.5)
    assert time.of(4) == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("larger_s", [0.01, 10.0], ids=["larger batches are faster", "a hang"])
def test_never_less_than_nothing_and_never_more_than_in_proportion(larger_s):
    time = BatchTime()
    time.add(1, 0.1)
    time.add(8, larger_s)
    assert 0 <= time.of(1) <= time.of(2) <= time.of(100) <= 100 * max(0.1, larger_s)
