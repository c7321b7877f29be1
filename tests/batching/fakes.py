"""An engine that runs when the test says so, and a loop whose clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Any


class ManualExecutor(Executor):
    """Holds each call until `finish` runs it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Any, tuple[Any, ...]]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append((future, fn, args))
        return future

    @property
    def waiting(self) -> list[Any]:
        """The arguments of the calls that have not been run: one list of items per batch."""
        return [args[0] for _, _, args in self.calls]

    async def finish(self) -> None:
        """Runs the oldest call and lets everybody who waits for it go on."""
        future, fn, args = self.calls.pop(0)
        try:
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        await settle()


class InlineExecutor(Executor):
    """Runs each call where it is submitted."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class FakeEngine:
    """Doubles integers; raises on a batch that holds a poisoned one."""

    def __init__(self, poison: set[int] | None = None) -> None:
        self.poison = poison or set()
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if self.poison & set(items):
            raise RuntimeError("poison")
        return [2 * item for item in items]


class ManualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until `advance`."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    async def advance(self, seconds: float) -> None:
        """Lets what was begun happen, moves the clock, then lets all that is due and its consequences run."""
        await settle()
        self.now += seconds
        await settle()


async def settle() -> None:
    """Lets the loop run until nothing that is ready now, or becomes so, is left."""
    for _ in range(20):
        await asyncio.sleep(0)
