"""Processes that are to end. A kill takes effect later than the call that sends it returns."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil


def lives(process: int | psutil.Process) -> bool:
    """Whether it runs, by itself or its id. A child whose parent is gone stays a zombie where nothing reaps it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def outlive(processes: Iterable[int | psutil.Process], limit_s: float = 30) -> list[int | psutil.Process]:
    """Those that live still at the end of the limit, in seconds: none as soon as none does."""
    left, end = list(processes), time.monotonic() + limit_s
    while (left := [each for each in left if lives(each)]) and time.monotonic() < end:
        time.sleep(0.01)
    return left
