"""Threads that compute have a lower priority than the event loop."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

LONG_NICENESS = 10  # of threads for what takes long: a third of the weight of those that also compute
NICENESS = 5  # above the event loop's, which then has three times the weight; measured in docs/performance.md


def give_way_entirely() -> None:
    """As `give_way`, also to other threads that compute."""
    _lower(LONG_NICENESS)


def give_way() -> None:
    """Lowers the priority of the calling thread, and of the threads that it will start, on Linux.

    With as many computing threads as cores the event loop has to wait for a time slice of one of them, and with it
    every client. It needs little time itself, so the others lose next to nothing.
    """
    _lower(NICENESS)


def _lower(by: int) -> None:
    # Elsewhere niceness belongs to the process. Where a sandbox forbids it, answers come later, no more.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + by)
