"""Gathers items into batches, runs them, and answers every item exactly once."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Generic, NamedTuple, Protocol, TypeVar

from batching.batch_time import BatchTime
from batching.errors import BatcherClosed, DeadlineExceeded, ItemFailed, QueueFull, TooLate
from batching.policy import BatchPolicy, Decision, Run

In = TypeVar("In")
Out = TypeVar("Out")

_LEAST_DRAIN_S = 1.0
_LOWERED_S = 60.0

ANSWERS_PER_TURN = 8
"""Answers handed out in one turn of the event loop: each wakes a caller that writes a response, and
other events of the loop must not wait for a whole batch of them."""


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
    """Is told about batches."""

    def batch_ran(self, size: int, seconds: float) -> None:
        """A batch of `size` items ran for `seconds`."""
        ...

    def item_left(self) -> None:
        """The caller of an item was cancelled before its answer."""
        ...


class _Pending(Generic[In, Out]):
    """A queued item: what it is, when it came, until when it counts, and the future that its caller awaits."""

    __slots__ = ("deadline", "enqueued_at", "expiry", "future", "item")

    def __init__(
        self, item: In, future: asyncio.Future[Answer[Out]], enqueued_at: float, deadline: float | None
    ) -> None:
        self.item = item
        self.future = future
        self.enqueued_at = enqueued_at
        self.deadline = deadline
        self.expiry: asyncio.TimerHandle | None = None


class _Batch(Generic[In, Out]):
    """A batch that left the queue, and the time at which its run is expected to end: infinite after the run."""

    __slots__ = ("expected_end", "items")

    def __init__(self, items: list[_Pending[In, Out]], expected_end: float) -> None:
        self.items = items
        self.expected_end = expected_end


class Batcher(Generic[In, Out]):
    """A bounded asyncio queue whose items are run in batches.

    The queue is an OrderedDict rather than an `asyncio.Queue`: an item that is cancelled or expires frees its
    place at once, and there is no consumer task that could die. `docs/performance.md` has the measurement.

    Everything happens on the event loop that created the batcher.
    """

    def __init__(
        self,
        run: Callable[[Sequence[In]], Awaitable[Sequence[Out]]],
        policy: BatchPolicy,
        *,
        concurrency: int = 1,
        queue_limit: int | None = 1024,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates a batcher on the running event loop.

        Args:
            run: awaited with 1 to `max_batch_size` items; returns as many results, in the same order. May raise:
                the batch is then split and tried again.
            policy: when to run what.
            concurrency: batches that may run at the same time.
            queue_limit: most items waiting; more are refused. None: the caller bounds them.
            observer: told about each run and each item that left.
            clock: tells the time in seconds, with the same zero as `loop.time()`, which is not used itself
                because uvloop's counts whole milliseconds.
        """
        self.policy = policy
        self.queue_limit = queue_limit
        self._run_items = run
        self._concurrency = concurrency
        self._observer = observer
        self._now = clock
        self._loop = asyncio.get_running_loop()
        self._queue: OrderedDict[_Pending[In, Out], None] = OrderedDict()
        self._idle_since = clock()
        self._batches_in_flight = 0
        self._batches: dict[asyncio.Task[None], _Batch[In, Out]] = {}
        self._wake_up: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._refusal: Callable[[], Exception] = lambda: BatcherClosed("the batcher was closed")
        self._lowered, self._lowered_until = policy, -math.inf
        self.batch_time = BatchTime()

    @property
    def queued(self) -> int:
        """Items that wait for a batch."""
        return len(self._queue)

    @property
    def batches_in_flight(self) -> int:
        """Batches that are running: 0 to `concurrency`."""
        return self._batches_in_flight

    @property
    def size_limit(self) -> int:
        """Most items in a batch: that of the policy, or fewer for a minute after batches that were too large."""
        return self._policy_now().max_batch_size

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        return self._closed

    def drain_s(self, items: int) -> float:
        """Seconds until that many items will have been answered, at least one; for Retry-After."""
        return max(_LEAST_DRAIN_S, self.finish_s(items - 1))

    @property
    def expected_batch_s(self) -> float:
        """Seconds that the running batches take, as recent batches let expect."""
        return sum(self.batch_time.of(len(batch.items)) for batch in self._batches.values())

    def finish_s(self, ahead: int) -> float:
        """Seconds until an item is done that has `ahead` items before it, as recent batches let expect.

        A batch that takes longer than expected is expected to take as long again.
        """
        most = self.size_limit
        full, rest = divmod(ahead, most)
        begin_s = self._busy_s() + full * self.batch_time.of(most) / self._concurrency
        fill_s = self.policy.batch_timeout_ms / 1000 if rest + 1 < most else 0.0
        return begin_s + fill_s + self.batch_time.of(rest + 1)

    async def submit(self, item: In, deadline: float | None = None, start_by: float = math.inf) -> Answer[Out]:
        """Queues an item and waits for its result.

        Cancelling the caller takes the item out of the queue.

        Args:
            item: what `run` will be given.
            deadline: time of the clock after which the result is not needed.
            start_by: time of the clock at which the item's batch has to have begun.

        Raises:
            QueueFull: nothing was queued.
            BatcherClosed: nothing was queued, or the batcher was closed without draining.
            DeadlineExceeded: the deadline passed first, or had passed already.
            TooLate: it has not begun by `start_by`.
            ItemFailed: the engine fails on this item.
        """
        self._check_open(deadline)
        pending = _Pending(item, self._loop.create_future(), self._now(), deadline)
        self._queue[pending] = None
        self._set_expiry(pending, start_by)
        self._wake()
        try:
            return await pending.future
        except asyncio.CancelledError:
            self._count_left()
            raise
        finally:
            self._queue.pop(pending, None)
            if pending.expiry is not None:
                pending.expiry.cancel()

    def set_concurrency(self, concurrency: int) -> None:
        """Lets so many batches run at the same time from now on; those that run are not stopped."""
        self._concurrency = concurrency
        if self._batches_in_flight < concurrency:
            self._dispatch()

    async def close(self, drain: bool = True) -> None:
        """Takes no more items, and returns when none is left.

        Args:
            drain: run what is queued; otherwise it is answered with BatcherClosed, and only what has left
                the queue is awaited.
        """
        self._closed = True
        if not drain:
            for pending in self._queue:
                _fail(pending, self._refusal())
            self._queue.clear()
        self._dispatch()
        while self._batches:
            await asyncio.wait(self._batches)

    def abandon(self, refusal: Callable[[], Exception]) -> None:
        """Answers every item with an error at once, those of running batches too, and takes no more items.

        Args:
            refusal: makes the error of one item.
        """
        self._closed, self._refusal = True, refusal
        for pending in (*self._queue, *chain.from_iterable(batch.items for batch in self._batches.values())):
            _fail(pending, refusal())
        self._queue.clear()

    def _check_open(self, deadline: float | None) -> None:
        if self._closed:
            raise self._refusal()
        if deadline is not None and deadline <= self._now():
            raise DeadlineExceeded("the deadline had passed")
        if self.queue_limit is not None and len(self._queue) >= self.queue_limit:
            raise QueueFull(self.drain_s(len(self._queue)))

    def _wake(self) -> None:
        """Asks the policy at the end of this turn of the loop: items that come together go together."""
        if self._wake_up is None:
            self._wake_up = self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Obeys the policy. Called after something changed: an item, a timer, a finished batch, close."""
        self._wake_up = None
        decision = self._decide()
        while isinstance(decision, Run):
            items = [self._queue.popitem(last=False)[0] for _ in range(decision.size)]
            batch = _Batch(items, self._now() + self.batch_time.of(len(items)))
            self._batches_in_flight += 1
            task = self._loop.create_task(self._run(batch))
            self._batches[task] = batch
            task.add_done_callback(self._batches.pop)
            if self._batches_in_flight >= self._concurrency:
                return
            decision = self._decide()
        if decision.seconds is not None and self._timer is None:
            # A timer that is too early, because the oldest item has left, only asks again.
            self._timer = self._loop.call_later(decision.seconds, self._time_out)

    def _decide(self) -> Decision:
        return self._policy_now().decide(len(self._queue), self._oldest_age_s(), self._idle_for_s())

    def _policy_now(self) -> BatchPolicy:
        return self._lowered if self._now() < self._lowered_until else self.policy

    def _lower_limit(self, size: int) -> None:
        size = min(size, self.size_limit)
        self._lowered = dataclasses.replace(self.policy, max_batch_size=size)
        self._lowered_until = self._now() + _LOWERED_S

    def _time_out(self) -> None:
        self._timer = None
        self._dispatch()

    def _oldest_age_s(self) -> float:
        if not self._queue:
            return 0.0
        # A closing batcher does not wait for a batch to fill.
        return math.inf if self._closed else self._now() - next(iter(self._queue)).enqueued_at

    def _idle_for_s(self) -> float | None:
        return None if self._batches_in_flight >= self._concurrency else self._now() - self._idle_since

    async def _run(self, batch: _Batch[In, Out]) -> None:
        """Runs a batch. The next one is started before the answers to this one are handed out."""
        started_at = self._now()
        try:
            try:
                answers = await self._run_or_split(batch.items, started_at)
            finally:
                self._idle_since = self._now()
                self.batch_time.add(len(batch.items), self._idle_since - started_at)
                batch.expected_end = math.inf
                self._batches_in_flight -= 1
                self._dispatch()
            await self._hand_out(answers)
        finally:
            for pending in batch.items:  # only after a cancellation is an item left without an answer
                _fail(pending, BatcherClosed("the batcher was stopped"))

    async def _run_or_split(
        self, batch: list[_Pending[In, Out]], started_at: float
    ) -> list[tuple[_Pending[In, Out], Answer[Out]]]:
        """Returns the answers; halves a batch that fails, so that only items that fail alone get the error.

        A batch whose halves succeed was too large, for the memory say: batches are smaller for a while.
        """
        batch = [pending for pending in batch if not pending.future.done()]
        if not batch:
            return []
        try:
            results = await self._run_once(batch)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], ItemFailed("the engine failed on this item"), cause=error)
                return []
            middle = len(batch) // 2
            first = await self._run_or_split(batch[:middle], started_at)
            await self._hand_out(first)
            second = await self._run_or_split(batch[middle:], started_at)
            if len(first) + len(second) == len(batch):
                self._lower_limit(middle)
            return second
        return [
            (pending, Answer(value, len(batch), started_at)) for pending, value in zip(batch, results, strict=True)
        ]

    async def _hand_out(self, answers: list[tuple[_Pending[In, Out], Answer[Out]]]) -> None:
        for begin in range(0, len(answers), ANSWERS_PER_TURN):
            for pending, answer in answers[begin : begin + ANSWERS_PER_TURN]:
                if not pending.future.done():
                    pending.future.set_result(answer)
            await asyncio.sleep(0)

    async def _run_once(self, batch: list[_Pending[In, Out]]) -> Sequence[Out]:
        began = self._now()
        items = [pending.item for pending in batch]
        results = await self._run_items(items)
        if len(results) != len(items):
            raise ValueError(f"the engine gave {len(results)} results for {len(items)} items")
        if self._observer is not None:
            self._observer.batch_ran(len(items), self._now() - began)
        return results

    def _busy_s(self) -> float:
        """Seconds until a batch can begin."""
        if self._batches_in_flight < self._concurrency:
            return 0.0
        return abs(min(batch.expected_end for batch in self._batches.values()) - self._now())

    def _set_expiry(self, pending: _Pending[In, Out], start_by: float) -> None:
        """One timer per item: first for `start_by`, then for the deadline."""
        if pending.deadline is not None and pending.deadline <= start_by:
            pending.expiry = self._loop.call_at(pending.deadline, self._expire, pending)
        elif start_by < math.inf:
            pending.expiry = self._loop.call_at(start_by, self._expire_unstarted, pending)

    def _expire_unstarted(self, pending: _Pending[In, Out]) -> None:
        if pending in self._queue:
            del self._queue[pending]
            _fail(pending, TooLate("the item would be done too late"))
        else:
            self._set_expiry(pending, math.inf)

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
