"""Who gets a connection."""

from __future__ import annotations

import asyncio
import socket

import pytest

from server.workers.dispatcher import Dispatcher


class FakeWorker:
    """Takes connections while it has room, and answers each with its name."""

    def __init__(self, name, ready=True, room=1000):
        self.name, self.room = name, room
        self.ready_at = 1.0 if ready else None
        self.leaving, self.doubtful, self.connections, self.expected = False, False, 0, 0

    def give(self, connection):
        if self.connections >= self.room:
            return False
        self.connections += 1
        self.expected -= self.expected > 0
        connection.setblocking(True)
        connection.sendall(self.name.encode())
        return True


@pytest.fixture
async def dispatch():
    """A function from workers to a running dispatcher and its address."""
    sockets = []

    def start(*workers):
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)
        dispatcher = Dispatcher([listening], lambda: workers)
        dispatcher.start()
        return dispatcher, listening.getsockname()

    yield start
    for each in sockets:
        if each.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(each)
            each.close()


async def connect(address, count):
    """The names of the workers that got that many connections, one after the other."""
    names = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(*address)
        async with asyncio.timeout(10):
            names.append((await reader.read(10)).decode())
        writer.close()
    return names


async def test_every_connection_goes_to_who_has_the_fewest(dispatch):
    a, b = FakeWorker("a"), FakeWorker("b")
    b.connections = 3
    _, address = dispatch(a, b)
    assert await connect(address, 7) == ["a"] * 3 + ["a", "b", "a", "b"]


async def test_who_is_ready_goes_before_who_loads_and_nobody_gets_one_while_it_leaves(dispatch):
    ready, loading, leaving = FakeWorker("ready"), FakeWorker("loading", ready=False), FakeWorker("leaving")
    ready.connections, leaving.leaving = 50, True
    _, address = dispatch(loading, leaving, ready)
    assert await connect(address, 3) == ["ready"] * 3
    ready.leaving = True
    assert await connect(address, 2) == ["loading"] * 2


async def test_a_doubtful_worker_gets_connections_only_while_no_other_is_ready(dispatch):
    sure, doubtful, loading = FakeWorker("sure"), FakeWorker("doubtful"), FakeWorker("loading", ready=False)
    sure.connections, doubtful.doubtful = 50, True
    _, address = dispatch(doubtful, loading, sure)
    assert await connect(address, 3) == ["sure"] * 3
    sure.leaving = True
    assert await connect(address, 2) == ["doubtful"] * 2


async def test_a_full_worker_is_passed_over(dispatch):
    full, free = FakeWorker("full", room=0), FakeWorker("free")
    free.connections = 9
    _, address = dispatch(full, free)
    assert await connect(address, 2) == ["free"] * 2


async def test_a_connection_that_nobody_takes_waits_for_who_does(dispatch):
    worker = FakeWorker("late", room=0)
    dispatcher, address = dispatch(worker)
    first, second = (asyncio.ensure_future(connect(address, 1)) for _ in range(2))
    while not dispatcher._acceptors[0].waiting:
        await asyncio.sleep(0)
    worker.room = 2
    assert await asyncio.gather(first, second) == [["late"], ["late"]]


async def test_closing_gives_out_what_the_kernel_has_accepted(dispatch):
    worker = FakeWorker("last")
    dispatcher, address = dispatch(worker)
    clients = [socket.create_connection(address) for _ in range(100)]  # the loop has not turned since
    await dispatcher.close()
    assert worker.connections == 100
    for client in clients:
        with client:
            assert client.recv(10) == b"last"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
