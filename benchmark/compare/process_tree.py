"""A process and its descendants: halted, let go on, measured from outside."""

from __future__ import annotations

import contextlib

import psutil

_MB = 2**20


class ProcessTree:
    """The processes of one server, as they are at the time of each call."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """The root first; none when it has ended."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> dict[int, float]:
        """User and system time of each process so far, by process id."""
        spent = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent[process.pid] = times.user + times.system
        return spent

    def rss_mb(self) -> float:
        """Resident memory, in which pages that processes share count once for each of them."""
        return self._memory("rss")

    def pss_mb(self) -> float:
        """Resident memory, in which a page that n processes share counts as an n-th for each."""
        return self._memory("pss")

    def _memory(self, kind: str) -> float:
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info() if kind == "pss" else process.memory_info()
                total += getattr(memory, kind)
        return total / _MB

    def halt(self) -> None:
        """Stops the processes where they are."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def go_on(self) -> None:
        """Lets halted processes go on, children first."""
        for process in reversed(self.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def spent_between(before: dict[int, float], after: dict[int, float]) -> float:
    """CPU seconds between two readings; a process that ended in between counts up to the first."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
