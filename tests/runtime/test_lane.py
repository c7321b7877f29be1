"""Threads for what takes long, beside those for what does not."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from batching import DeadlineExceeded, QueueFull
from runtime import lane
from runtime.cpu_pool import CpuPool


@pytest.fixture
def gate():
    """Work on a pool that waits for it ends with the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def pool():
    made = CpuPool(1)
    yield made
    made.close()


def stand_still_until(holds):
    """Waits on the event loop's thread: no timer of the loop can take a job away meanwhile."""
    while not holds():
        time.sleep(0.001)


async def begun(pool, gate):
    """A long job that has begun, and waits for the gate."""
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(stop):
        loop.call_soon_threadsafe(started.set)
        gate.wait(30)
        return stop

    job = asyncio.ensure_future(pool.run_long(work, time.monotonic() + 30))
    await started.wait()
    return job


async def test_what_is_short_does_not_wait_for_what_is_long(pool, gate):
    long = await begun(pool, gate)
    assert await asyncio.wait_for(pool.run(lambda: "short"), 30) == "short"
    assert not long.done()


async def test_long_jobs_have_threads_that_begin_with_what_they_are_told():
    begun = []
    pool = CpuPool(
        1,
        lambda: begun.append(("short", threading.current_thread().name)),
        lambda: begun.append(("long", threading.current_thread().name)),
    )
    await pool.run(int)
    assert begun == [("short", "cpu-0")], "those for long jobs start when there is one"
    await pool.run_long(lambda stop: 1)
    pool.close()
    assert begun[1] == ("long", "cpu-long-0")


async def test_a_long_job_is_told_to_stop_when_its_caller_leaves(pool, gate):
    job = await begun(pool, gate)
    job.cancel()
    seen = []

    def look(stop):
        seen.append(bytes(stop))

    await asyncio.sleep(0)
    gate.set()
    await pool.run_long(look)
    assert seen == [b"\0"], "this one is waited for"


async def test_and_when_the_deadline_passes(pool, gate):
    stops = []

    def work(stop):
        stops.append(stop)
        gate.wait(30)

    with pytest.raises(DeadlineExceeded):
        await pool.run_long(work, time.monotonic() + 0.05)
    if stops:  # it had begun
        assert stops[0][0] == 1


async def test_work_past_its_deadline_is_not_begun(pool, gate):
    ran = []
    blocker = asyncio.ensure_future(pool.run(lambda: gate.wait(30)))
    await asyncio.sleep(0)
    deadline = time.monotonic() + 0.01
    late = asyncio.ensure_future(pool.run(lambda: ran.append("late"), deadline))
    await asyncio.sleep(0)
    stand_still_until(lambda: time.monotonic() >= deadline)
    gate.set()
    stand_still_until(lambda: pool._short.waiting == 0)
    with pytest.raises(DeadlineExceeded):
        await late
    await blocker
    assert await pool.run(lambda: list(ran)) == []


async def test_what_waits_is_counted_and_what_was_given_up_is_not(pool, gate):
    assert pool._short.waiting == pool._long.waiting == 0
    started = threading.Event()
    blocker = asyncio.ensure_future(pool.run(lambda: started.set() or gate.wait(30)))
    await asyncio.sleep(0)
    assert started.wait(30)
    jobs = [asyncio.ensure_future(pool.run(int)) for _ in range(5)]
    await asyncio.sleep(0)
    assert pool._short.waiting == 5
    for job in jobs[:3]:
        job.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pool._short.waiting == 2
    gate.set()
    await asyncio.gather(blocker, *jobs[3:])
    assert pool._short.waiting == 0
    jobs = [asyncio.ensure_future(pool.run(int)) for _ in range(5)]
    await asyncio.gather(*jobs)
    assert pool._short.waiting == 0, "those that were passed over count no more"


async def test_the_time_of_a_job_is_a_moving_average(pool, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(lane.time, "monotonic", lambda: now[0])

    def work(seconds):
        now[0] += seconds

    assert pool._short.seconds_per_job == 0
    await pool.run(lambda: work(2.0))
    assert pool._short.seconds_per_job == 2.0
    await pool.run(lambda: work(4.0))
    assert pool._short.seconds_per_job == pytest.approx(2.1)
    await pool.run_long(lambda stop: work(60.0))
    assert pool._short.seconds_per_job == pytest.approx(2.1), "the long ones' is another"
    assert pool._long.seconds_per_job == 60.0


async def test_long_work_that_would_not_be_done_in_time_is_refused_at_once(pool, gate):
    pool._long.seconds_per_job = 10.0
    running = await begun(pool, gate)
    waits = asyncio.ensure_future(pool.run_long(lambda stop: 1, time.monotonic() + 30))
    await asyncio.sleep(0)
    assert pool._long.waiting == 1
    with pytest.raises(QueueFull) as caught:
        await pool.run_long(lambda stop: 1, time.monotonic() + 5)
    assert caught.value.retry_after_s == 10
    gate.set()
    await asyncio.gather(running, waits)


async def test_after_long_jobs_the_lane_rests_once(monkeypatch):
    monkeypatch.setattr(lane, "_REST_S", 0.001)
    rested = threading.Semaphore(0)
    pool = CpuPool(1, rest=rested.release)
    await pool.run(int)
    await pool.run_long(lambda stop: time.sleep(0.001))
    assert await asyncio.get_running_loop().run_in_executor(None, rested.acquire, True, 30)
    await pool.run_long(lambda stop: time.sleep(0.001))
    assert await asyncio.get_running_loop().run_in_executor(None, rested.acquire, True, 30)
    pool.close()
