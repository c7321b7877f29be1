"""When a worker is started again."""

from __future__ import annotations

from runtime.processes.restarts import MOST_FAILED_STARTS, STABLE_S, Restarts


def test_a_worker_that_served_well_is_replaced_at_once():
    assert Restarts().delay_s == 0
    assert Restarts(failures=7).after(STABLE_S) == Restarts()


def test_workers_that_end_soon_are_started_ever_more_slowly():
    restarts, delays = Restarts(), []
    for _ in range(9):
        restarts = restarts.after(1.0)
        delays.append(restarts.delay_s)
    assert delays == [0.5, 1, 2, 4, 4, 4, 4, 4, 4]
    assert not restarts.hopeless


def test_workers_that_are_never_ready_are_started_more_slowly_still():
    restarts, delays = Restarts(), []
    for _ in range(9):
        restarts = restarts.after(None)
        delays.append(restarts.delay_s)
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_starts_that_fail_one_after_the_other_are_given_up():
    restarts = Restarts()
    for _ in range(MOST_FAILED_STARTS - 1):
        restarts = restarts.after(None)
    assert not restarts.hopeless
    assert restarts.after(None).hopeless
    assert not restarts.after(1.0).after(None).hopeless, "it was ready in between"
