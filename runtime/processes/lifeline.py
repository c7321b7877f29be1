"""No process outlives the one that started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with(parent: int, lifeline: int) -> None:
    """Ends this process and its group as soon as the lifeline's other end is closed, or the parent is gone.

    Args:
        parent: process id of the one that started this one.
        lifeline: descriptor of a pipe whose writing end another process holds and never writes to.
    """
    if sys.platform == "linux":  # the kernel does it also where native code holds the interpreter for ever
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    threading.Thread(target=_wait, args=(lifeline,), daemon=True, name="lifeline").start()


def _wait(lifeline: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(lifeline, 1):
            pass
    with contextlib.suppress(OSError):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
