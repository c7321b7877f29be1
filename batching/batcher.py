"""Gathers items into batches, runs them on one thread, and answers every item exactly once."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, NamedTuple, Protocol, TypeVar

from batching.errors import BatcherClosed, DeadlineExceeded, ItemFailed, QueueFull
from batching.policy import BatchPolicy, Run
from batching.rate import DrainRate

In = TypeVar("In")
Out = TypeVar("Out")

ANSWERS_PER_TURN = 8
"""Answers handed out in one turn of the event loop: each wakes a caller, who has a response to write, and
what else waits for the loop must not wait for a whole batch of them."""


class Answer(NamedTuple, Generic[Out]):
    """An item's result and what became of it on the way.

    Attributes:
        value: the item's own result.
        batch_size: items in the run that gave the result.
        started_at: time of the clock at which that item's batch left the queue, in seconds.
    """

    value: Out
    batch_size: int
    started_at: float


class BatchObserver(Protocol):
    """Told about batches; `server/operations/metrics.py` implements it."""

    def batch_ran(self, size: int, seconds: float) -> None: ...

    def item_left(self) -> None: ...


class _Pending(Generic[In, Out]):
    """A queued item: what it is, when it came, and the future that its caller awaits."""

    __slots__ = ("enqueued_at", "future", "item")

    def __init__(self, item: In, future: asyncio.Future[Answer[Out]], enqueued_at: float) -> None:
        self.item = item
        self.future = future
        self.enqueued_at = enqueued_at


class Batcher(Generic[In, Out]):
    """A bounded asyncio queue whose items are run in batches, one batch at a time.

    The queue is an OrderedDict rather than an `asyncio.Queue`: whoever leaves or expires frees his place at
    once, and there is no consumer task that could die. `docs/performance.md` has the measurement.

    Everything but `run_batch` happens on the event loop that created the batcher.
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[In]], Sequence[Out]],
        policy: BatchPolicy,
        *,
        executor: Executor,
        queue_limit: int = 1024,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates a batcher on the running event loop.

        Args:
            run_batch: called on `executor` with 1 to `max_batch_size` items; returns as many results, in
                the same order. May raise: the batch is then split and tried again.
            policy: when to run what.
            executor: runs one call at a time; not shut down here.
            queue_limit: most items waiting; more are refused.
            observer: told about each run and each item that left.
            clock: tells the time in seconds, with the same zero as `loop.time()`, which is not used itself
                because uvloop's counts whole milliseconds.
        """
        self.policy = policy
        self.queue_limit = queue_limit
        self._run_batch = run_batch
        self._executor = executor
        self._observer = observer
        self._now = clock
        self._loop = asyncio.get_running_loop()
        self._queue: OrderedDict[_Pending[In, Out], None] = OrderedDict()
        self._engine_idle = True
        self._batches: set[asyncio.Task[None]] = set()
        self._wake_up: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._rate = DrainRate()

    @property
    def queued(self) -> int:
        """Items that wait for a batch."""
        return len(self._queue)

    @property
    def batches_in_flight(self) -> int:
        """Batches on the engine: 0 or 1."""
        return 0 if self._engine_idle else 1

    @property
    def closed(self) -> bool:
        return self._closed

    def drain_s(self, items: int) -> float:
        """Seconds until that many items will have been answered, at the rate measured lately."""
        return self._rate.seconds_for(items)

    async def submit(self, item: In, deadline: float | None = None) -> Answer[Out]:
        """Queues an item and waits for its result.

        Cancelling the caller takes the item out of the queue.

        Args:
            item: what `run_batch` will be given.
            deadline: time of the clock after which nobody wants the result.

        Raises:
            QueueFull: nothing was queued.
            BatcherClosed: nothing was queued, or the batcher was closed without draining.
            DeadlineExceeded: the deadline passed first, or had passed already.
            ItemFailed: the engine fails on this item.
        """
        self._check_open(deadline)
        pending = _Pending(item, self._loop.create_future(), self._now())
        self._queue[pending] = None
        expiry = None if deadline is None else self._loop.call_at(deadline, self._expire, pending)
        self._wake()
        try:
            return await pending.future
        except asyncio.CancelledError:
            self._count_left()
            raise
        finally:
            self._queue.pop(pending, None)
            if expiry is not None:
                expiry.cancel()

    async def close(self, drain: bool = True) -> None:
        """Takes no more items, and returns when none is left.

        Args:
            drain: run what is queued; otherwise it is answered with BatcherClosed, and only what has left
                the queue is awaited.
        """
        self._closed = True
        if not drain:
            for pending in self._queue:
                _fail(pending, BatcherClosed("the batcher was closed"))
            self._queue.clear()
        self._dispatch()
        while self._batches:
            await asyncio.wait(self._batches)

    def _check_open(self, deadline: float | None) -> None:
        if self._closed:
            raise BatcherClosed("the batcher was closed")
        if deadline is not None and deadline <= self._now():
            raise DeadlineExceeded("the deadline had passed")
        if len(self._queue) >= self.queue_limit:
            raise QueueFull(self.drain_s(len(self._queue)))

    def _wake(self) -> None:
        """Asks the policy at the end of this turn of the loop: items that come together go together."""
        if self._wake_up is None:
            self._wake_up = self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Obeys the policy. Called after something changed: an item, a timer, a finished batch, close."""
        self._wake_up = None
        decision = self.policy.decide(len(self._queue), self._oldest_age_s(), self._engine_idle)
        if isinstance(decision, Run):
            batch = [self._queue.popitem(last=False)[0] for _ in range(decision.size)]
            self._engine_idle = False
            task = self._loop.create_task(self._run(batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)
        elif decision.seconds is not None and self._timer is None:
            # A timer that is too early, because the oldest item has left, only asks again.
            self._timer = self._loop.call_later(decision.seconds, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        self._dispatch()

    def _oldest_age_s(self) -> float:
        if not self._queue:
            return 0.0
        # A closing batcher waits for nobody.
        return math.inf if self._closed else self._now() - next(iter(self._queue)).enqueued_at

    async def _run(self, batch: list[_Pending[In, Out]]) -> None:
        """Runs a batch. The engine has its next one before the answers to this one are handed out."""
        started_at = self._now()
        try:
            try:
                answers = await self._run_or_split(batch, started_at)
            finally:
                self._rate.add(len(batch), self._now() - started_at)
                self._engine_idle = True
                self._dispatch()
            await self._hand_out(answers)
        finally:
            for pending in batch:  # only after a cancellation is anybody left without an answer
                _fail(pending, BatcherClosed("the batcher was stopped"))

    async def _run_or_split(
        self, batch: list[_Pending[In, Out]], started_at: float
    ) -> list[tuple[_Pending[In, Out], Answer[Out]]]:
        """Returns the answers; halves a batch that fails, so that only what fails alone is told so."""
        batch = [pending for pending in batch if not pending.future.done()]
        if not batch:
            return []
        try:
            results = await self._call_engine(batch)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], ItemFailed("the engine failed on this item"), cause=error)
                return []
            middle = len(batch) // 2
            await self._hand_out(await self._run_or_split(batch[:middle], started_at))
            return await self._run_or_split(batch[middle:], started_at)
        return [
            (pending, Answer(value, len(batch), started_at)) for pending, value in zip(batch, results, strict=True)
        ]

    async def _hand_out(self, answers: list[tuple[_Pending[In, Out], Answer[Out]]]) -> None:
        for begin in range(0, len(answers), ANSWERS_PER_TURN):
            for pending, answer in answers[begin : begin + ANSWERS_PER_TURN]:
                if not pending.future.done():
                    pending.future.set_result(answer)
            await asyncio.sleep(0)

    async def _call_engine(self, batch: list[_Pending[In, Out]]) -> Sequence[Out]:
        began = self._now()
        items = [pending.item for pending in batch]
        results = await self._loop.run_in_executor(self._executor, self._run_batch, items)
        if len(results) != len(items):
            raise ValueError(f"the engine gave {len(results)} results for {len(items)} items")
        if self._observer is not None:
            self._observer.batch_ran(len(items), self._now() - began)
        return results

    def _expire(self, pending: _Pending[In, Out]) -> None:
        self._queue.pop(pending, None)
        _fail(pending, DeadlineExceeded("the deadline passed"))

    def _count_left(self) -> None:
        if self._observer is not None:
            self._observer.item_left()


def _fail(pending: _Pending[In, Out], error: Exception, cause: BaseException | None = None) -> None:
    if not pending.future.done():
        error.__cause__ = cause
        pending.future.set_exception(error)
