"""Wakes an event loop at a moment, to some 50 µs. A loop's own timers count whole milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC, _ABSOLUTE, _NONBLOCKING = 1, 1, os.O_NONBLOCK  # linux/time.h, sys/timerfd.h


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Alarm:
    """A Linux timerfd (https://man7.org/linux/man-pages/man2/timerfd_create.2.html); elsewhere the loop's timer.

    Python has these calls itself from 3.13 on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        """Calls `ring` on the loop when the moment has come that `set` named last."""
        self._loop = loop
        self._ring = ring
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCKING)
            loop.add_reader(self._file, self._expired)

    def set(self, moment: float) -> None:
        """Rings at `moment`, of `time.monotonic()`; at once if that has passed."""
        if self._file < 0:
            self._loop.call_later(moment - time.monotonic(), self._ring)
            return
        seconds, rest = divmod(max(1, round(moment * 1e9)), 1_000_000_000)
        spec = _TimerSpec(value=_TimeSpec(seconds, rest))
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(spec), None)

    def close(self) -> None:
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)

    def _expired(self) -> None:
        os.read(self._file, 8)
        self._ring()
