"""A worker as the supervisor sees it: what it said last, and its end, once."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from server.workers.messages import Closed, Heartbeat, SupervisorEnd, WorkerEnd
from server.workers.worker_process import WorkerProcess


@pytest.fixture
def heard():
    return []


@pytest.fixture
async def worker(heard):
    """One whose process has just ended; nothing of what `theirs` has sent was read."""
    worker = WorkerProcess(lambda _, report: heard.append(report))
    worker.process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    ours, theirs = socket.socketpair()
    worker.channel = SupervisorEnd(ours)
    with theirs:
        theirs.setblocking(False)
        worker.theirs = WorkerEnd(theirs)
        yield worker


async def test_its_end_is_reported_behind_what_it_said_last(worker, heard):
    worker.theirs.send(Closed(3))
    worker.theirs.send(Heartbeat(False, False))
    worker.theirs.socket.close()
    assert await worker.wait() == 0
    assert heard == [Closed(3), Heartbeat(False, False), None]
    assert worker.leaving


async def test_its_end_is_reported_where_another_process_keeps_its_channel_open(worker, heard):
    worker.theirs.send(Heartbeat(False, False))
    assert await worker.wait() == 0
    assert heard == [Heartbeat(False, False), None]


async def test_its_end_is_reported_once(worker, heard):
    asyncio.get_running_loop().add_reader(worker.channel.socket, worker._read)
    worker.theirs.socket.close()
    while None not in heard:
        await asyncio.sleep(0)
    assert await worker.wait() == 0
    assert heard == [None]
