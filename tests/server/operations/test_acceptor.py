"""Accepting, also where no descriptor is left."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from server.operations import acceptor as module
from server.operations.acceptor import Acceptor


class Poor:
    """A listening socket that fails as told: an error for each call of `accept`, None for none."""

    def __init__(self, listening, errors):
        self._listening, self.errors = listening, errors

    def __getattr__(self, name):
        return getattr(self._listening, name)

    def accept(self):
        if self.errors and (number := self.errors.pop(0)):
            raise OSError(number, os.strerror(number))
        return self._listening.accept()


@pytest.fixture
async def run():
    """Starts an acceptor whose socket has these errors; returns what it gave out, and a function that connects."""
    opened = []

    def start(*errors):
        listening = Poor(socket.create_server(("127.0.0.1", 0)), list(errors))
        taken = []

        def take(connection):
            taken.append(connection)
            return True

        acceptor = Acceptor(listening, take)
        acceptor.start()
        opened.append((acceptor, taken))

        async def connect():
            return await asyncio.open_connection(*listening.getsockname())

        return taken, connect

    yield start
    for acceptor, taken in opened:
        await acceptor.close()
        for each in taken:
            each.close()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_without_a_descriptor_a_client_is_refused_and_the_next_one_served(run, caplog, number):
    taken, connect = run(number)
    reader, writer = await connect()
    async with asyncio.timeout(10):
        assert await reader.read() == b"", "closed, and not left waiting"
    writer.close()
    _, writer = await connect()
    await until(lambda: taken)
    writer.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "descriptor" in caplog.text


async def test_a_thousand_refusals_are_one_line_and_the_loop_goes_on(run, caplog):
    _, connect = run(*[errno.EMFILE, None] * 100)
    for _ in range(50):
        _, writer = await connect()
        writer.close()
    assert len(caplog.records) == 1


async def test_where_another_thread_took_the_last_descriptor_too_the_client_waits(run, monkeypatch, caplog):
    pauses = []
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    pause = Acceptor._pause
    monkeypatch.setattr(Acceptor, "_pause", lambda self: (pauses.append(1), pause(self)))
    taken, connect = run(*[errno.EMFILE] * 6)
    _, writer = await connect()
    await until(lambda: taken)
    writer.close()
    assert len(pauses) == 3, "a pause after each attempt: it does not spin"
    assert len(caplog.records) == 1


async def test_a_client_that_has_left_again_is_no_reason_to_pause_or_to_complain(run, caplog):
    taken, connect = run(errno.ECONNABORTED)
    _, writer = await connect()
    await until(lambda: taken)
    writer.close()
    assert not caplog.records


async def test_closing_gives_out_what_the_kernel_has_accepted():
    listening, taken = socket.create_server(("127.0.0.1", 0)), []
    address = listening.getsockname()
    acceptor = Acceptor(listening, lambda connection: taken.append(connection) or True)
    clients = [socket.create_connection(address) for _ in range(100)]
    await acceptor.close()
    assert len(taken) == 100
    for each in (*clients, *taken):
        each.close()
