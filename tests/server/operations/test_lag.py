"""The event loop's delay, with a clock and a loop that are told what time it is."""

from __future__ import annotations

import asyncio
import time

import pytest

import server.service as server_service
from server.operations.lag import INTERVAL_S, LoopLag


@pytest.fixture
def timers(monkeypatch):
    """What is asked of the running loop: (time, callback)."""
    asked = []

    class Loop:
        def call_at(self, when, callback):
            asked.append((when, callback))

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    return asked


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def drive(timers, lateness):
    """Starts a probe, calls it that much too late each time, and returns what it reported."""
    clock, reported = Clock(), []
    LoopLag(reported.append, clock).start()
    for late in lateness:
        when, callback = timers[-1]
        clock.now = when + late
        callback()
    return reported


def test_each_call_reports_how_late_it_is(timers):
    assert drive(timers, [0.001, 0.0, 0.015]) == pytest.approx([0.001, 0.0, 0.015])
    assert [when for when, _ in timers] == pytest.approx([100 + INTERVAL_S * n for n in (1, 2, 3, 4)])


def test_a_call_that_is_early_counts_as_in_time(timers):
    assert drive(timers, [-0.0004]) == [0.0]


def test_calls_that_were_missed_count_with_the_delay_they_would_have_had(timers):
    assert drive(timers, [0.07, 0.0]) == pytest.approx([0.07, 0.05, 0.03, 0.01, 0.0])
    assert timers[-1][0] == pytest.approx(100 + 6 * INTERVAL_S), "the grid is kept"


async def test_a_loop_that_is_blocked_is_late():
    reported = []
    probe = LoopLag(reported.append)
    probe.start()
    time.sleep(5 * INTERVAL_S)  # noqa: ASYNC251  this is the fault that is measured
    while len(reported) < 3:
        await asyncio.sleep(0)
    assert max(reported) >= 3 * INTERVAL_S
    probe.stop()


async def test_the_delay_of_a_start_is_not_measured(start, monkeypatch):
    server, order = await start(load=False), []
    assert server.service._loop_lag._timer is None

    class Starting:
        async def load(self):
            order.append("load")

        def watch_loop(self):
            order.append("watch")

    monkeypatch.setattr(server_service, "_freeze", lambda: order.append("freeze"))
    assert await server_service.loaded_before(asyncio.Event(), Starting())
    assert order == ["load", "freeze", "watch"]


async def test_a_server_measures_its_loop_until_it_is_closed(start):
    server = await start()
    async with asyncio.timeout(30):
        while not await server.metric("snapserve_event_loop_lag_seconds_count"):
            await asyncio.sleep(INTERVAL_S)
    await server.service.drain()
    await server.service.close()
    timer = server.service._loop_lag._timer
    assert timer.cancelled()
