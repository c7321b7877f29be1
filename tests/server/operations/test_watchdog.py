"""An engine that does not come back is noticed; one that is slow, or was stopped with the machine, is not."""

from __future__ import annotations

import pytest

from runtime.runner import ThreadRunner
from server.operations.watchdog import INTERVAL_S, Watchdog


class OnThread(ThreadRunner):
    def __init__(self):
        self.busy_since, self.limit_s = None, 30.0


class InProcess:
    busy_since, limit_s = None, 30.0


class FakeDeployment:
    """Its batches usually take `expected_batch_s`."""

    def __init__(self, runner, expected_batch_s=0.0):
        self.runner, self.batcher = runner, self
        self.expected_batch_s = expected_batch_s


class Watched:
    """A watchdog over deployments, and the clock that it looks at."""

    def __init__(self, *deployments, timeout_s=30.0):
        self.now = 100.0
        self.deployments = list(deployments)
        self.watchdog = Watchdog(self.deployments, clock=lambda: self.now)
        for each in deployments:
            each.runner.limit_s = timeout_s

    def wait(self, seconds):
        """Lets time pass as it does in a process that runs."""
        for _ in range(round(seconds / INTERVAL_S)):
            self.now += INTERVAL_S
            self.watchdog.look()


@pytest.fixture(params=[OnThread, InProcess])
def busy(request):
    """An engine that has just begun a batch of an unknown duration, on a thread or in a process."""
    runner = request.param()
    runner.busy_since = 100.0
    return FakeDeployment(runner)


def test_an_engine_without_work_is_never_overdue():
    watched = Watched(FakeDeployment(OnThread()))
    watched.wait(100)
    assert not watched.watchdog.overdue
    assert watched.watchdog.stuck is None


def test_an_engine_that_does_not_come_back_is_overdue_within_a_second(busy):
    watched = Watched(busy)
    watched.wait(0.75)
    assert not watched.watchdog.overdue
    watched.wait(0.25)
    assert watched.watchdog.overdue
    assert watched.watchdog.stuck is None


def test_an_engine_on_a_thread_that_is_busy_beyond_the_limit_is_stuck_and_no_other():
    thread, process, idle = FakeDeployment(OnThread()), FakeDeployment(InProcess()), FakeDeployment(OnThread())
    thread.runner.busy_since = process.runner.busy_since = 100.0
    watched = Watched(idle, process, thread)
    watched.wait(30)
    assert watched.watchdog.stuck is None
    watched.wait(0.25)
    assert watched.watchdog.stuck is thread


def test_an_engine_whose_batches_are_slow_is_overdue_after_three_times_their_time():
    slow = FakeDeployment(OnThread(), expected_batch_s=2.0)
    slow.runner.busy_since = 100.0
    watched = Watched(slow)
    watched.wait(6)
    assert not watched.watchdog.overdue
    watched.wait(0.25)
    assert watched.watchdog.overdue


def test_each_batch_counts_by_itself(busy):
    watched = Watched(busy, timeout_s=1.0)
    for _ in range(20):
        watched.wait(0.5)
        busy.runner.busy_since = watched.now
        assert not watched.watchdog.overdue
    watched.wait(5)
    assert watched.watchdog.overdue
    busy.runner.busy_since = None
    watched.wait(0.25)
    assert not watched.watchdog.overdue


def test_a_machine_that_was_suspended_is_no_engine_that_is_stuck(busy):
    watched = Watched(busy)
    watched.now += 3600
    watched.watchdog.look()
    assert not watched.watchdog.overdue
    assert watched.watchdog.stuck is None


def test_a_deployment_that_was_removed_is_forgotten(busy):
    watched = Watched(busy)
    watched.wait(5)
    watched.deployments.clear()
    watched.wait(0.25)
    assert not watched.watchdog.overdue
