"""A model in service."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic

from batching import Batcher, BatcherClosed, BatchPolicy, QueueFull, TooLate
from runtime.admission import Admission
from runtime.batch_limit import BatchLimit
from runtime.cpu_pool import CpuPool
from runtime.errors import ModelUnloaded, NotScalable
from runtime.inputs import Input
from runtime.model import Item, Model, Row
from runtime.observer import Audience, DeploymentObserver
from runtime.outputs import Output
from runtime.phases import PhaseClock
from runtime.runner import Runner, ScalableRunner


@dataclass(frozen=True)
class Batching:
    """How items are gathered.

    Attributes:
        max_batch_size: most items in a batch.
        timeout_ms: longest wait for a batch to fill; 0: start as soon as the runner is idle.
        queue_limit: most items accepted and not yet answered.
        concurrency: batches that the runner takes at the same time.
        target_latency_ms: an input that would be answered later is refused. 0: some times what an idle model takes
            for a full batch, measured at the start, or, without an example, as it runs; None: no such limit.
        limit: of the time of a batch.
    """

    max_batch_size: int
    timeout_ms: float = 0.0
    queue_limit: int = 1024
    concurrency: int = 1
    target_latency_ms: float | None = None
    limit: BatchLimit = field(default_factory=BatchLimit)


# Under full load preprocessing and engine share the cores, and a batch waits for the one before it.
_TARGET_BATCHES = 10.0
_LEAST_TARGET_S = 1.0  # in which a burst of a few dozen requests is answered
_LONGEST_MEASUREMENT_S = 2.0  # of a full batch; above it is taken in proportion to a batch of one
_MEASURED_INPUTS = 3
_WEIGHT = 0.1  # of the newest item in the moving average of preprocessing


class Deployment(Generic[Item, Row]):
    """Takes inputs: prepares each, batches them, runs the batches, finishes each row.

    Attributes:
        model: that is served.
        runner: that hosts its engine.
        batcher: that gathers its items.
        audience: is told of each input; None: there is none.
        load_s: seconds that the runner took to load the engine.
    """

    def __init__(
        self,
        model: Model[Item, Row],
        runner: Runner[Item, Row],
        cpu_pool: CpuPool,
        batching: Batching,
        observer: DeploymentObserver | None = None,
    ) -> None:
        """Creates it on the running event loop; `start` then loads the model."""
        self.model = model
        self.runner = runner
        policy = BatchPolicy(batching.max_batch_size, batching.timeout_ms)
        self.batcher: Batcher[Item, Row] = Batcher(
            runner.run, policy, concurrency=batching.concurrency, queue_limit=None, observer=observer
        )
        self.audience: Audience | None = None
        self.load_s = 0.0
        self.admission = Admission()
        self._cpu_pool = cpu_pool
        self._batching = batching
        self._may_take_long = getattr(model, "may_take_long", _never)
        self._observer = observer
        self._accepted = self._preparing = 0
        self._learns_target = False  # from what clients send: there is no example to measure
        self._prepare_s = 0.0
        self._refusal: Callable[[], Exception] | None = None

    async def start(self) -> None:
        """Loads the model, and warms up the way of an input through `infer`. Raises ModelError."""
        self.runner.limit_s = self._batching.limit.at_start_s
        began = time.monotonic()
        await self.runner.start()
        self.load_s = time.monotonic() - began
        example, target_ms = self.model.example(), self._batching.target_latency_ms
        if example is not None:
            await self._try(example)
        if target_ms:
            self.admission.target_s = target_ms / 1000
        self._learns_target = target_ms == 0 and example is None

    async def _try(self, example: Input) -> None:
        """Warms up, and sets what is to be measured."""
        await self._infer(example, PhaseClock(time.monotonic), None, math.inf)
        batching = self._batching
        if batching.target_latency_ms is not None:
            await self._measure(example)
            self.admission.target_s = self._default_target_s()
        self.runner.limit_s = batching.limit.of(self.batcher.batch_time.of(batching.max_batch_size))

    async def _measure(self, example: Input) -> None:
        """Times a batch of one and a full one, while nothing else runs."""
        self._prepare_s = 0.0  # the first input loaded libraries
        for _ in range(_MEASURED_INPUTS):
            item = await self._cpu_pool.run(partial(self._prepare, example, math.inf))
        times, most = self.batcher.batch_time, self._batching.max_batch_size
        for size in (1, 1, most, most):
            if size > 1 and times.of(size) > _LONGEST_MEASUREMENT_S:
                return
            began = time.monotonic()
            await self.runner.run([item] * size)
            times.add(size, time.monotonic() - began)

    def _default_target_s(self) -> float:
        idle_s = self._prepare_s + self.batcher.batch_time.of(self._batching.max_batch_size)
        return max(_LEAST_TARGET_S, _TARGET_BATCHES * idle_s) + self._batching.timeout_ms / 1000

    @property
    def accepted(self) -> int:
        """Inputs that were accepted and not yet answered."""
        return self._accepted

    @property
    def waiting(self) -> int:
        """Inputs on the CPU pool or in the queue, apart from those that may take long to prepare."""
        return self._preparing + self.batcher.queued

    @property
    def is_open(self) -> bool:
        """Whether it takes inputs."""
        return not self.batcher.closed

    def admit(self, count: int = 1, deadline: float | None = None, is_retry: bool = False) -> float:
        """Accepts a request of `count` inputs: `infer` takes them until the time that is returned.

        Args:
            count: of its inputs.
            deadline: `time.monotonic()` after which no client waits for the outputs.
            is_retry: its client was refused before, and repeats its request after Retry-After.

        Raises:
            QueueFull: no further input can be accepted.
            Overloaded: the outputs would come too late.
            Exception: the error of `abandon`.
        """
        try:
            return self._admitted(count, deadline, is_retry)
        except Exception:
            self._note_failure(time.monotonic())
            raise

    def _admitted(self, count: int, deadline: float | None, is_retry: bool) -> float:
        self._check_room()
        if not self._accepted:
            return self.admission.admit(None, deadline)
        item_s = self._item_s()
        size = min(self._preparing + self.batcher.queued + 1, self._batching.max_batch_size)
        batch_s = self.batcher.batch_time.of(size)
        return self.admission.admit(self.forecast_s(), deadline, is_retry, (count - 1) * item_s, item_s, batch_s)

    def forecast_s(self) -> float:
        """Seconds until an input that came now would be answered, by what lies before it and measured rates."""
        prepare_s = (self._preparing + 1) * self._prepare_s / self._cpu_pool.threads
        batcher = self.batcher
        return max(prepare_s + batcher.batch_time.of(1), batcher.finish_s(self._preparing + batcher.queued))

    def _item_s(self) -> float:
        """Seconds per item under full load: of the slower of preprocessing and engine."""
        at_once = self._batching.max_batch_size * self._batching.concurrency
        batch_s = self.batcher.batch_time.of(self._batching.max_batch_size)
        return max(self._prepare_s / self._cpu_pool.threads, batch_s / at_once)

    def _check_room(self) -> None:
        if self._refusal:
            raise self._refusal()
        if self._accepted >= self._batching.queue_limit:
            raise QueueFull(self.batcher.drain_s(self._accepted))

    async def infer(
        self, given: Input, clock: PhaseClock, deadline: float | None = None, start_by: float = math.inf
    ) -> Output:
        """Runs one input through the model.

        Args:
            given: what a client sent.
            clock: gets the marks decode, queue and infer, and the size of the batch.
            deadline: `time.monotonic()` after which no client waits for the output.
            start_by: what `admit` returned.

        Raises:
            ImageError: the image cannot be decoded.
            BatchingError: the queue is full, the deadline has passed, or the engine failed on this item.
            Overloaded: other inputs took longer than was forecast, and the output would come too late.
            ModelUnloaded: the deployment is closed.
        """
        began = time.monotonic()
        try:
            output = await self._infer(given, clock, deadline, start_by)
        except BaseException as error:
            self._note_failure(began)
            if self.audience and isinstance(error, Exception):
                self.audience.failed(error)
            raise
        if self._learns_target:
            self.admission.target_s = self._default_target_s()
        if self._observer:
            self._observer.item_answered(clock.seconds)
        if self.audience:
            self.audience.answered(given, output, clock)
        return output

    def _note_failure(self, began: float) -> None:
        if self._observer:
            self._observer.item_failed(time.monotonic() - began)

    async def _infer(self, given: Input, clock: PhaseClock, deadline: float | None, start_by: float) -> Output:
        self._check_room()
        self._accepted += 1
        try:
            if self._may_take_long(given):
                start_by = math.inf  # what a large image takes is no sign of overload
                item = await self._cpu_pool.run_long(partial(self.model.prepare, given), deadline)
            else:
                item = await self._prepared(given, deadline, start_by)
            clock.mark("decode")
            try:
                answer = await self.batcher.submit(item, deadline, start_by)
            except BaseException:
                _leave(item)
                raise
            clock.mark("queue", answer.started_at)
            clock.mark("infer")
            clock.batch_size = answer.batch_size
            return self.model.finish(answer.value)
        except TooLate:
            raise self.admission.refusal(self._item_s()) from None
        except BatcherClosed:
            raise ModelUnloaded("The model was unloaded.") from None
        finally:
            self._accepted -= 1

    async def _prepared(self, given: Input, deadline: float | None, start_by: float) -> Item:
        self._preparing += 1
        try:
            return await self._cpu_pool.run(partial(self._prepare, given, start_by), deadline)
        finally:
            self._preparing -= 1

    def _prepare(self, given: Input, start_by: float) -> Item:
        """On a thread of the CPU pool."""
        began = time.monotonic()
        if began > start_by:
            raise TooLate("the item would be done too late")
        item = self.model.prepare(given)
        took, known = time.monotonic() - began, self._prepare_s
        self._prepare_s = known + _WEIGHT * (took - known) if known else took
        return item

    def abandon(self, refusal: Callable[[], Exception]) -> None:
        """Refuses all inputs, and answers those that wait or run, without waiting for the engine.

        Args:
            refusal: makes the error of one input.
        """
        self._refusal = refusal
        self.batcher.abandon(refusal)

    async def scale(self, processes: int) -> None:
        """Runs the engine in so many processes.

        Raises:
            EngineError: a further one does not load.
            NotScalable: it runs on a thread.
        """
        if not isinstance(self.runner, ScalableRunner):
            raise NotScalable(f"The engine of {self.model.facts.name} runs on a thread of the server.")
        await self.runner.scale(processes)
        self.batcher.set_concurrency(processes)

    async def close(self, drain: bool = True) -> None:
        """Takes no more inputs, runs what is queued (without `drain`: fails it), then frees the engine."""
        await self.batcher.close(drain)
        await self.runner.close()


def _leave(item: Any) -> None:
    """The client of an item has left: tells its runner, if the item can."""
    if leave := getattr(item, "leave", None):
        leave()


def _never(given: Input) -> bool:
    """Of a model whose inputs are all prepared fast."""
    return False
