"""Ctrl-C while something is written that must be whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_interrupts() -> Iterator[threading.Event]:
    """Holds SIGINT and SIGTERM back; the event tells whether one came."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came  # they are never raised here
        return
    before = {number: signal.signal(number, lambda *_: came.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
