"""Batcher with a fake engine and a clock that the test turns: no sleeps, no threads, no luck."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from batching import (
    Answer,
    Batcher,
    BatcherClosed,
    BatchPolicy,
    DeadlineExceeded,
    ItemFailed,
    QueueFull,
    TooLate,
)
from batching.batcher import ANSWERS_PER_TURN
from tests.batching.fakes import FakeEngine, InlineExecutor, ManualClockLoop, ManualExecutor, settle

WHILE_BUSY = BatchPolicy(max_batch_size=8, batch_timeout_ms=0)
FIXED = BatchPolicy(max_batch_size=4, batch_timeout_ms=10)


def on_manual_clock(test):
    """Runs an async test on a ManualClockLoop, which it gets as its argument."""

    def run():
        with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
            runner.run(test(runner.get_loop()))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Observer:
    def __init__(self):
        self.sizes, self.left = [], 0

    def batch_ran(self, size, seconds):
        self.sizes.append(size)

    def item_left(self):
        self.left += 1


def make_batcher(run_batch, policy, executor, **options):
    loop = asyncio.get_running_loop()

    async def run(items):
        return await loop.run_in_executor(executor, run_batch, items)

    return Batcher(run, policy, clock=loop.time, **options)


def start(batcher, items, deadline=None):
    return [asyncio.ensure_future(batcher.submit(item, deadline)) for item in items]


async def outcomes(tasks):
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [result.value if isinstance(result, Answer) else type(result) for result in results]


@on_manual_clock
async def test_an_idle_engine_takes_a_lone_item_at_once_with_while_busy(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor)
    (task,) = start(batcher, [1])
    await settle()
    assert executor.waiting == [[1]], "the clock has not moved"
    await executor.finish()
    assert task.result() == Answer(2, 1, loop.time())


@on_manual_clock
async def test_items_that_come_together_go_together(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor)
    start(batcher, [1, 2, 3])
    await settle()
    assert executor.waiting == [[1, 2, 3]]
    await executor.finish()


@on_manual_clock
async def test_batches_form_while_the_engine_is_busy(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor)
    tasks = start(batcher, [0])
    await settle()
    tasks += start(batcher, range(1, 11))
    await settle()
    assert (batcher.queued, batcher.batches_in_flight) == (10, 1)
    await executor.finish()
    assert executor.waiting == [list(range(1, 9))]
    await executor.finish()
    assert executor.waiting == [[9, 10]]
    await executor.finish()
    assert await outcomes(tasks) == [2 * n for n in range(11)]


@on_manual_clock
async def test_the_engine_has_its_next_batch_before_the_answers_are_handed_out(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor)
    tasks = start(batcher, range(16))
    seen = []
    for task in tasks[:8]:
        task.add_done_callback(lambda _: seen.append(list(executor.waiting)))
    await settle()
    await executor.finish()
    assert seen == [[list(range(8, 16))]] * 8
    await executor.finish()
    assert await outcomes(tasks) == [2 * n for n in range(16)]


@on_manual_clock
async def test_answers_are_handed_out_in_groups_between_which_the_loop_turns(loop):
    executor = ManualExecutor()
    policy = BatchPolicy(max_batch_size=32, batch_timeout_ms=0)
    batcher = make_batcher(FakeEngine(), policy, executor=executor)
    tasks, turn, answered_in = start(batcher, range(32)), 0, []
    for task in tasks:
        task.add_done_callback(lambda _: answered_in.append(turn))
    await settle()
    finishing = asyncio.ensure_future(executor.finish())
    while len(answered_in) < len(tasks):
        turn += 1
        await asyncio.sleep(0)
    await finishing
    assert len(set(answered_in)) == len(tasks) / ANSWERS_PER_TURN


@on_manual_clock
async def test_fixed_timeout_waits_for_company_from_the_first_item_on(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), FIXED, executor=executor)
    start(batcher, [1])
    await loop.advance(0.006)
    start(batcher, [2])
    await loop.advance(0.002)
    assert executor.waiting == []
    await loop.advance(0.001)
    assert executor.waiting == [[1, 2]]
    await executor.finish()


@on_manual_clock
async def test_fixed_timeout_runs_a_full_batch_at_once(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), FIXED, executor=executor)
    start(batcher, range(5))
    await settle()
    assert executor.waiting == [[0, 1, 2, 3]]
    await loop.advance(0.010)
    assert len(executor.waiting) == 1, "one batch at a time"
    await executor.finish()
    assert executor.waiting == [[4]]
    await executor.finish()


@on_manual_clock
async def test_fixed_timeout_counts_anew_when_the_oldest_item_has_left(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), FIXED, executor=executor)
    (first,) = start(batcher, [1])
    await loop.advance(0.006)
    start(batcher, [2])
    await settle()
    first.cancel()
    await loop.advance(0.004)
    assert executor.waiting == [], "the second item has waited for 4 ms only"
    await loop.advance(0.006)
    assert executor.waiting == [[2]]
    await executor.finish()


@on_manual_clock
async def test_one_of_four_cancels_and_three_are_answered(loop):
    executor, engine, observer = ManualExecutor(), FakeEngine(), Observer()
    batcher = make_batcher(engine, FIXED, executor=executor, observer=observer)
    tasks = start(batcher, [1, 2, 3])
    await settle()
    tasks[1].cancel()
    tasks += start(batcher, [4])
    await loop.advance(0.010)
    assert executor.waiting == [[1, 3, 4]], "who has left is skipped when the batch is formed"
    await executor.finish()
    assert await outcomes(tasks) == [2, asyncio.CancelledError, 6, 8]
    assert observer.left == 1
    assert observer.sizes == [3]


@on_manual_clock
async def test_one_of_four_cancels_while_the_engine_works_and_three_are_answered(loop):
    executor, observer = ManualExecutor(), Observer()
    batcher = make_batcher(FakeEngine(), FIXED, executor=executor, observer=observer)
    tasks = start(batcher, [1, 2, 3, 4])
    await settle()
    tasks[2].cancel()
    await settle()
    await executor.finish()
    assert await outcomes(tasks) == [2, 4, asyncio.CancelledError, 8]
    assert observer.left == 1
    assert batcher.batches_in_flight == 0


@on_manual_clock
async def test_an_engine_that_raises_answers_everybody_and_lives_on(loop):
    engine = FakeEngine(poison=set(range(8)))
    batcher = make_batcher(engine, WHILE_BUSY, executor=InlineExecutor())
    tasks = start(batcher, range(8))
    assert await outcomes(tasks) == [ItemFailed] * 8
    engine.poison.clear()
    assert (await batcher.submit(5)).value == 10


@on_manual_clock
async def test_a_poison_item_fails_alone(loop):
    engine = FakeEngine(poison={5})
    batcher = make_batcher(engine, WHILE_BUSY, executor=InlineExecutor())
    tasks = start(batcher, range(8))
    assert await outcomes(tasks) == [0, 2, 4, 6, 8, ItemFailed, 12, 14]
    assert engine.batches == [list(range(8)), [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]
    assert isinstance(tasks[5].exception().__cause__, RuntimeError)


@on_manual_clock
async def test_who_leaves_during_a_failing_run_is_not_tried_again(loop):
    executor, engine = ManualExecutor(), FakeEngine(poison={1})
    batcher = make_batcher(engine, WHILE_BUSY, executor=executor)
    tasks = start(batcher, [1, 2])
    await settle()
    tasks[0].cancel()
    await settle()
    await executor.finish()
    assert executor.waiting == [[2]]
    await executor.finish()
    assert await outcomes(tasks) == [asyncio.CancelledError, 4]


@on_manual_clock
async def test_a_wrong_number_of_results_is_a_failure_not_a_mix_up(loop):
    batcher = make_batcher(lambda items: [0] * (len(items) - 1), WHILE_BUSY, executor=InlineExecutor())
    assert await outcomes(start(batcher, range(4))) == [ItemFailed] * 4


@on_manual_clock
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor, queue_limit=3)
    tasks = start(batcher, [0])
    await settle()
    await loop.advance(4.0)
    await executor.finish()  # one item in 4 s: the rate is known now
    tasks += start(batcher, [1])
    await settle()
    tasks += start(batcher, [2, 3, 4])
    await settle()
    with pytest.raises(QueueFull) as refusal:
        await batcher.submit(5)
    assert refusal.value.retry_after_s == pytest.approx(16.0), "the one that runs, and three that wait"
    assert batcher.drain_s(5) == pytest.approx(24.0)
    tasks[-1].cancel()
    await settle()
    tasks += start(batcher, [6])
    await settle()
    await executor.finish()
    await executor.finish()
    assert await outcomes(tasks) == [0, 2, 4, 6, asyncio.CancelledError, 12]


@on_manual_clock
async def test_a_deadline_expires_before_the_engine_sees_the_item(loop):
    executor, engine = ManualExecutor(), FakeEngine()
    batcher = make_batcher(engine, WHILE_BUSY, executor=executor)
    running = start(batcher, [1])
    await settle()
    late = start(batcher, [2], deadline=loop.time() + 1)
    patient = start(batcher, [3], deadline=loop.time() + 10)
    await loop.advance(1.5)
    assert await outcomes(late) == [DeadlineExceeded], "answered while the engine is still busy"
    assert batcher.queued == 1
    await executor.finish()
    await executor.finish()
    assert await outcomes(running + patient) == [2, 6]
    assert engine.batches == [[1], [3]]


@on_manual_clock
async def test_a_deadline_that_passes_during_the_run_is_answered_at_once(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor)
    tasks = start(batcher, [1], deadline=loop.time() + 1) + start(batcher, [2])
    await settle()
    await loop.advance(2)
    assert tasks[0].done()
    await executor.finish()
    assert await outcomes(tasks) == [DeadlineExceeded, 4]


@on_manual_clock
async def test_a_deadline_in_the_past_is_refused(loop):
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=InlineExecutor())
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(1, deadline=loop.time())


@on_manual_clock
async def test_close_drains_without_waiting_for_the_timeout(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), FIXED, executor=executor)
    tasks = start(batcher, range(6))
    await settle()
    closing = asyncio.ensure_future(batcher.close())
    await settle()
    with pytest.raises(BatcherClosed):
        await batcher.submit(9)
    await executor.finish()
    assert executor.waiting == [[4, 5]], "the rest goes at once: nobody else will come"
    assert not closing.done()
    await executor.finish()
    await closing
    assert batcher.closed
    assert await outcomes(tasks) == [0, 2, 4, 6, 8, 10]


@on_manual_clock
async def test_close_without_drain_answers_everybody(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), FIXED, executor=executor)
    tasks = start(batcher, range(6))
    await settle()
    closing = asyncio.ensure_future(batcher.close(drain=False))
    await settle()
    await executor.finish()
    await closing
    assert await outcomes(tasks) == [0, 2, 4, 6, BatcherClosed, BatcherClosed]


@on_manual_clock
async def test_an_abandoned_batcher_answers_at_once_what_waits_and_what_runs_and_takes_nothing(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), FIXED, executor=executor)
    tasks = start(batcher, range(6))
    await settle()
    batcher.abandon(lambda: KeyError("gone"))
    tasks += start(batcher, [6])
    assert await outcomes(tasks) == [KeyError] * 7
    assert executor.waiting == [[0, 1, 2, 3]], "the engine never came back"
    await executor.finish()
    assert batcher.batches_in_flight == batcher.queued == 0


@on_manual_clock
async def test_the_time_that_the_running_batch_should_take_is_known(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), BatchPolicy(4, 0), executor=executor)
    first = start(batcher, [1])
    await settle()
    assert batcher.expected_batch_s == 0
    await loop.advance(0.5)
    await executor.finish()
    second = start(batcher, range(3))
    await settle()
    assert batcher.expected_batch_s == 1.5
    await executor.finish()
    assert batcher.expected_batch_s == 0
    await outcomes(first + second)


@on_manual_clock
async def test_a_cancelled_run_leaves_nobody_without_an_answer(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor)
    tasks = start(batcher, [1, 2])
    await settle()
    next(iter(batcher._batches)).cancel()
    assert await outcomes(tasks) == [BatcherClosed] * 2
    later = start(batcher, [3])
    await settle()
    executor.calls.pop(0)
    await executor.finish()
    assert await outcomes(later) == [6]


@pytest.mark.slow
@pytest.mark.parametrize("items", [20_000, pytest.param(100_000, marks=pytest.mark.exhaustive)])
def test_items_with_random_cancellations_each_get_their_own_answer(items):
    """On a real thread and the real clock: each item that stays gets exactly its own answer, exactly once."""
    cancelled, wrong = 0, 0
    choose = random.Random(7)

    async def one(batcher, item):
        nonlocal cancelled, wrong
        leaves = choose.random() < 0.2
        task = asyncio.ensure_future(batcher.submit(item))
        if leaves:
            for _ in range(choose.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            wrong += (await task).value != 2 * item
        except asyncio.CancelledError:
            cancelled += 1

    async def run():
        with ThreadPoolExecutor(1) as executor:
            batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor, queue_limit=4096)
            for first in range(0, items, 2000):
                await asyncio.gather(*(one(batcher, item) for item in range(first, first + 2000)))
            await batcher.close()
            assert batcher.queued == batcher.batches_in_flight == 0

    asyncio.run(run())
    assert wrong == 0
    assert 0 < cancelled < 0.25 * items


@on_manual_clock
async def test_as_many_batches_run_at_once_as_there_are_runners(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), BatchPolicy(2, 0), executor=executor, concurrency=2)
    tasks = start(batcher, range(6))
    await settle()
    await settle()
    assert executor.waiting == [[0, 1], [2, 3]] and batcher.batches_in_flight == 2
    await executor.finish()
    assert executor.waiting == [[2, 3], [4, 5]]
    await executor.finish()
    await executor.finish()
    assert batcher.batches_in_flight == 0
    assert await outcomes(tasks) == [0, 2, 4, 6, 8, 10]


@on_manual_clock
async def test_without_a_limit_the_caller_bounds_the_queue(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), BatchPolicy(1, 0), executor=executor, queue_limit=None)
    tasks = start(batcher, range(5000))
    await settle()
    assert batcher.queued == 4999
    for task in tasks:
        task.cancel()


@on_manual_clock
async def test_an_item_that_has_not_begun_in_time_never_costs_a_place_in_a_batch(loop):
    executor, engine = ManualExecutor(), FakeEngine()
    batcher = make_batcher(engine, WHILE_BUSY, executor=executor)
    tasks = start(batcher, [0])
    await settle()
    late = asyncio.ensure_future(batcher.submit(1, loop.now + 30.0, start_by=loop.now + 2.0))
    tasks += [late, *start(batcher, [2])]
    await loop.advance(2.5)
    assert isinstance(late.exception(), TooLate), "at once, not only when its batch would begin"
    await executor.finish()
    await executor.finish()
    assert engine.batches == [[0], [2]]
    assert await outcomes(tasks) == [0, TooLate, 4]


@on_manual_clock
async def test_an_item_that_has_begun_in_time_goes_on_until_its_deadline(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), WHILE_BUSY, executor=executor)
    tasks = [asyncio.ensure_future(batcher.submit(1, loop.now + 10.0, start_by=loop.now + 1.0))]
    tasks.append(asyncio.ensure_future(batcher.submit(2, loop.now + 4.0, start_by=loop.now + 1.0)))
    await loop.advance(5.0)
    await executor.finish()
    assert await outcomes(tasks) == [2, DeadlineExceeded]


@on_manual_clock
async def test_the_forecast_counts_what_runs_what_waits_and_the_item_itself(loop):
    executor = ManualExecutor()
    batcher = make_batcher(FakeEngine(), BatchPolicy(2), executor=executor)
    for _ in range(10):
        batcher.batch_time.add(1, 1.0)
        batcher.batch_time.add(2, 1.5)
    assert batcher.finish_s(0) == pytest.approx(1.0)
    assert batcher.finish_s(3) == pytest.approx(1.5 + 1.5), "a full batch, then one of two"
    tasks = start(batcher, [0])
    await loop.advance(0.4)
    assert batcher.finish_s(0) == pytest.approx(0.6 + 1.0)
    await loop.advance(3.6)
    assert batcher.finish_s(0) == pytest.approx(3.0 + 1.0), "three seconds overdue: it may take three more"
    await executor.finish()
    assert await outcomes(tasks) == [0]


@on_manual_clock
async def test_batches_that_are_too_large_make_batches_smaller_for_a_minute(loop):
    sizes = []

    def run(items):
        sizes.append(len(items))
        if len(items) > 2:
            raise MemoryError
        return items

    batcher = make_batcher(run, WHILE_BUSY, executor=InlineExecutor())
    assert await outcomes(start(batcher, range(8))) == list(range(8))
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert batcher.size_limit == 2
    sizes.clear()
    assert await outcomes(start(batcher, range(8))) == list(range(8))
    assert sizes == [2, 2, 2, 2]
    await loop.advance(61.0)
    assert batcher.size_limit == 8


@on_manual_clock
async def test_an_item_that_fails_by_itself_leaves_the_size_of_batches_alone(loop):
    batcher = make_batcher(FakeEngine(poison={3}), WHILE_BUSY, executor=InlineExecutor())
    assert (await outcomes(start(batcher, range(8))))[3] is ItemFailed
    assert batcher.size_limit == 8
