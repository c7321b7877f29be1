"""One core for the server, another for the load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def server_and_load_cores() -> tuple[int, int]:
    """The server's core and the load's; the same where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Programs that are started within run on that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
