"""Which interpreter is next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.interpreters.balance import Balance


def test_a_thread_stays_where_it_was_as_long_as_that_is_free():
    balance = Balance(3)
    assert balance.acquire() == 0
    assert balance.acquire() == 1
    balance.release(0)
    balance.release(1)
    assert balance.acquire() == 1
    assert [balance.acquire(), balance.acquire()] == [2, 0]


def test_another_thread_scans_from_its_own_place():
    balance = Balance(3)
    assert [balance.acquire(), balance.acquire()] == [0, 1]
    balance.release(0)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(balance.acquire).result() == 0
    assert balance.acquire() == 2


def test_when_all_are_busy_the_one_with_the_fewest_users_is_shared():
    balance = Balance(2)
    assert [balance.acquire() for _ in range(3)] == [0, 1, 1]
    assert balance.acquire() == 0
    balance.release(0)
    assert balance.acquire() == 0


def test_the_limit():
    balance = Balance(3)
    balance.limit(1)
    assert [balance.acquire() for _ in range(3)] == [0, 0, 0]
    balance.limit(3)
    assert [balance.acquire(), balance.acquire()] == [1, 2]
    with pytest.raises(ValueError, match="4 of 3"):
        balance.limit(4)
