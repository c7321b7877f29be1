"""The threads that compute have less weight than the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from models.machine import priority
from models.machine.priority import NICENESS, give_way

linux = pytest.mark.skipif(sys.platform != "linux", reason="niceness of a thread is Linux'")


def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux
async def test_decode_and_engine_threads_give_way_and_so_do_the_threads_they_start(start):
    server = await start()
    context, loop = server.service.context, asyncio.get_running_loop()
    before = niceness()
    lowered = min(before + NICENESS, 19)

    def of_a_new_thread():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(niceness()))
        thread.start()
        thread.join()
        return seen[0]

    for work in (niceness, of_a_new_thread):
        assert await context.cpu_pool.run(work) == lowered
        for deployment in context.store:
            assert await loop.run_in_executor(deployment.runner._thread, work) == lowered
    assert niceness() == before, "the event loop's own"


def test_where_it_is_forbidden_the_thread_works_all_the_same(monkeypatch):
    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(priority.os, "setpriority", forbidden)
    give_way()
