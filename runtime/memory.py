"""Memory that models take, as the kernel counts it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from models.machine.allocator import give_back_memory, weights_apart
from runtime.deployment import Deployment
from runtime.runner import ScalableRunner

T = TypeVar("T")


def resident_bytes(pid: int | None = None) -> int:
    """Bytes of a process in memory or swapped out, shared ones too; of this one by default.

    It depends on no other process: a file of weights that two workers have mapped counts in both. A process that
    has ended takes none.
    """
    return _bytes_of(pid, "Rss", "Swap")


def proportional_bytes(pid: int) -> int:
    """As `resident_bytes`, but a page that n processes share counts 1/n: over all processes the sum is right.

    A child that was forked of a process with torch in it takes only its share of torch. Where the kernel does not
    tell, all resident bytes.
    """
    return _bytes_of(pid, "Pss", "SwapPss")


def processes_bytes(pids: Iterable[int]) -> int:
    """Bytes of several processes, those of a `ProcessRunner` say (`pids`); one that has ended takes none."""
    return sum(map(proportional_bytes, pids))


def _bytes_of(pid: int | None, *fields: str) -> int:
    """Sums fields of smaps_rollup (https://docs.kernel.org/filesystems/proc.html), in kB of 1024 bytes."""
    process = Path("/proc", "self" if pid is None else str(pid))
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return _statm_bytes(process)
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return sum(kilobytes.get(field, 0) << 10 for field in fields)


def _statm_bytes(process: Path) -> int:
    """Resident bytes, less exact; also of a process of another user, of a zombie 0."""
    try:
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class ModelMeter:
    """Measures what a model adds to this process, and what the processes of its engine take."""

    def __init__(self) -> None:
        self._meter = MemoryMeter()

    async def measure(self, deployment: Deployment[Any, Any]) -> int:
        """Starts a deployment, and returns the bytes that it takes. Raises ModelError."""
        _, added = await self._meter.measure(deployment.start)
        runner = deployment.runner
        if not isinstance(runner, ScalableRunner):
            return added
        pids = runner.pids  # of those that have loaded; the others will be alike
        return added + await asyncio.to_thread(processes_bytes, pids) * runner.places // max(1, len(pids))


class MemoryMeter:
    """Measures what loading a model adds to this process, one load at a time.

    The figure is of the whole process: what clients' images take at the two moments is in it. Memory of a graphics
    card is not.
    """

    def __init__(
        self, read: Callable[[], int] = resident_bytes, give_back: Callable[[], None] = give_back_memory
    ) -> None:
        """Creates it.

        Args:
            read: bytes of this process; both are called on another thread.
            give_back: returns freed memory to the kernel. Before a load, which would else reuse it unseen, and
                after it, as what it took for a while does not stay.
        """
        self._read = read
        self._give_back = give_back
        self._turn = asyncio.Lock()

    async def measure(self, load: Callable[[], Awaitable[T]]) -> tuple[T, int]:
        """Loads something when no other load is measured.

        Args:
            load: begins the load.

        Returns:
            What `load` gave, and the bytes that it added, at least 0.

        Raises:
            Exception: what `load` raises.
        """
        async with self._turn:
            before = await asyncio.to_thread(self._settled_bytes)
            with weights_apart():
                loaded = await load()
            added = await asyncio.to_thread(self._settled_bytes) - before
            return loaded, max(0, added)

    def _settled_bytes(self) -> int:
        self._give_back()
        return self._read()
