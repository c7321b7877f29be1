"""A model in service."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Generic

from batching import Batcher, BatcherClosed, BatchPolicy, QueueFull
from runtime.cpu_pool import CpuPool
from runtime.errors import ModelUnloaded
from runtime.inputs import Input
from runtime.model import Item, Model, Row
from runtime.observer import DeploymentObserver
from runtime.outputs import Output
from runtime.phases import PhaseClock
from runtime.runner import Runner


@dataclass(frozen=True)
class Batching:
    """How items are gathered.

    Attributes:
        max_batch_size: most items in a batch.
        timeout_ms: longest wait for a batch to fill; 0: start as soon as the runner is idle.
        queue_limit: most items accepted and not yet answered.
    """

    max_batch_size: int
    timeout_ms: float = 0.0
    queue_limit: int = 1024


class Deployment(Generic[Item, Row]):
    """Takes inputs: prepares each, batches them, runs the batches, finishes each row.

    Attributes:
        model: that is served.
        runner: that hosts its engine.
        batcher: that gathers its items.
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
        self.batcher: Batcher[Item, Row] = Batcher(runner.run, policy, queue_limit=None, observer=observer)
        self._cpu_pool = cpu_pool
        self._may_take_long = getattr(model, "may_take_long", _never)
        self._queue_limit = batching.queue_limit
        self._observer = observer
        self._accepted = 0

    async def start(self) -> None:
        """Loads the model, and warms up the way of an input through `infer`. Raises ModelError."""
        await self.runner.start()
        await self._infer(self.model.example(), PhaseClock(time.monotonic), None)

    @property
    def accepted(self) -> int:
        """Inputs that were accepted and not yet answered."""
        return self._accepted

    @property
    def is_open(self) -> bool:
        """Whether it takes inputs."""
        return not self.batcher.closed

    def check_room(self) -> None:
        """Raises QueueFull when no further input can be accepted."""
        if self._accepted >= self._queue_limit:
            raise QueueFull(self.batcher.drain_s(self._accepted))

    async def infer(self, given: Input, clock: PhaseClock, deadline: float | None = None) -> Output:
        """Runs one input through the model.

        Args:
            given: what a client sent.
            clock: gets the marks decode, queue and infer, and the size of the batch.
            deadline: `time.monotonic()` after which no client waits for the output.

        Raises:
            ImageError: the image cannot be decoded.
            BatchingError: the queue is full, the deadline has passed, or the engine failed on this item.
            ModelUnloaded: the deployment is closed.
        """
        output = await self._infer(given, clock, deadline)
        if self._observer:
            self._observer.item_answered(clock.seconds)
        return output

    async def _infer(self, given: Input, clock: PhaseClock, deadline: float | None) -> Output:
        self.check_room()
        self._accepted += 1
        try:
            item = await self._prepare(given, deadline)
            clock.mark("decode")
            answer = await self.batcher.submit(item, deadline)
            clock.mark("queue", answer.started_at)
            clock.mark("infer")
            clock.batch_size = answer.batch_size
            return self.model.finish(answer.value)
        except BatcherClosed:
            raise ModelUnloaded("The model was unloaded.") from None
        finally:
            self._accepted -= 1

    def _prepare(self, given: Input, deadline: float | None) -> Awaitable[Item]:
        prepare = partial(self.model.prepare, given)
        if self._may_take_long(given):
            return self._cpu_pool.run_long(prepare, deadline)
        return self._cpu_pool.run(prepare, deadline)

    async def close(self, drain: bool = True) -> None:
        """Takes no more inputs, runs what is queued (without `drain`: fails it), then frees the engine."""
        await self.batcher.close(drain)
        await self.runner.close()


def _never(given: Input) -> bool:
    """Of a model whose inputs are all prepared fast."""
    return False
