"""Work for another thread, of which nothing is kept when nobody waits for it any longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from batching import DeadlineExceeded

In = TypeVar("In")
Out = TypeVar("Out")


async def offload(executor: Executor, function: Callable[[In], Out], argument: In, deadline: float | None) -> Out:
    """Runs `function(argument)` on the executor.

    An executor keeps cancelled calls in its queue until a thread comes to them; the argument, which may be
    megabytes, is taken out of theirs at once.

    Raises:
        DeadlineExceeded: `deadline`, of `time.monotonic()`, passed first. A call that has begun goes on.
    """
    parcel = [argument]
    del argument
    try:
        async with asyncio.timeout_at(deadline):
            return await asyncio.get_running_loop().run_in_executor(executor, _unpack, function, parcel)
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed before a thread was done") from None
    finally:
        parcel.clear()


def _unpack(function: Callable[[In], Out], parcel: list[In]) -> Out:
    return function(parcel.pop())
