"""Work on threads, and who waits for it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from batching import DeadlineExceeded
from runtime.cpu_pool import CpuPool


@pytest.fixture
def pool():
    made = CpuPool(2)
    yield made
    made.close()


@pytest.fixture
def gate():
    """Work on a pool that waits for it ends with the test."""
    event = threading.Event()
    yield event
    event.set()


async def test_everybody_gets_his_own_result(pool):
    async def square(number):
        return await pool.run(lambda: number * number)

    numbers = range(5000)
    assert await asyncio.gather(*map(square, numbers)) == [number * number for number in numbers]


async def test_the_threads_work_at_the_same_time(pool):
    barrier = threading.Barrier(2, timeout=30)
    assert sorted(await asyncio.gather(pool.run(barrier.wait), pool.run(barrier.wait))) == [0, 1]


async def test_what_the_work_raises_is_raised_and_the_thread_goes_on():
    pool = CpuPool(1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 / 0)
    assert await pool.run(threading.get_ident) == await pool.run(threading.get_ident)
    pool.close()


async def test_each_thread_begins_with_what_it_is_told(pool):
    begun = []
    other = CpuPool(3, lambda: begun.append(threading.current_thread().name))
    barrier = threading.Barrier(3, timeout=30)
    await asyncio.gather(*(other.run(barrier.wait) for _ in range(3)))
    other.close()
    assert sorted(begun) == ["cpu-0", "cpu-1", "cpu-2"]


async def test_who_leaves_or_comes_too_late_is_passed_over(gate):
    pool, ran = CpuPool(1), []
    blocker = asyncio.ensure_future(pool.run(lambda: gate.wait(30)))
    leaver = asyncio.ensure_future(pool.run(lambda: ran.append("leaver")))
    stayer = asyncio.ensure_future(pool.run(lambda: ran.append("stayer")))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded):
        await pool.run(lambda: ran.append("late"), time.monotonic() + 0.01)
    leaver.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(blocker, stayer)
    pool.close()
    assert ran == ["stayer"]
    assert leaver.cancelled()


async def test_work_that_has_begun_when_its_caller_leaves_is_finished(gate):
    pool, ran, begun = CpuPool(1), [], threading.Event()

    def work():
        begun.set()
        gate.wait(30)
        ran.append("finished")

    leaver = asyncio.ensure_future(pool.run(work))
    while not begun.is_set():
        await asyncio.sleep(0)
    leaver.cancel()
    gate.set()
    assert await pool.run(lambda: list(ran)) == ["finished"]
    pool.close()


@pytest.mark.parametrize("way", ["deadline", "cancellation", "result"])
async def test_nothing_is_kept_of_what_nobody_waits_for(gate, way):
    class EncodedImage:
        def decode(self):
            return None

    pool, image = CpuPool(1), EncodedImage()
    held = weakref.ref(image)
    blocker = None if way == "result" else asyncio.ensure_future(pool.run(lambda: gate.wait(30)))
    call = asyncio.ensure_future(pool.run(image.decode, time.monotonic() + (0.01 if way == "deadline" else 30)))
    del image
    if way == "deadline":
        with pytest.raises(DeadlineExceeded):
            await call
    elif way == "cancellation":
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        await call
    del call
    gc.collect()
    assert held() is None
    gate.set()
    if blocker:
        await blocker
    pool.close()


async def test_closing_lets_the_threads_finish_what_was_asked_for():
    pool = CpuPool(1)
    asked = [asyncio.ensure_future(pool.run(lambda n=number: n)) for number in range(100)]
    await asyncio.sleep(0)
    pool.close()
    assert await asyncio.gather(*asked) == list(range(100))
