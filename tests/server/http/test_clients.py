"""Clients that are slow, too many, half gone or quite gone, on both event loops."""

from __future__ import annotations

import asyncio
import socket

import pytest

from server.http import connection as connection_module
from server.http import connections as connections_module
from server.http import turns as turns_module
from tests.conftest import flat
from tests.server.http.test_connection import REQUEST, answer
from tests.server.test_classify import until

CHUNKED = b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def upload(image):
    return REQUEST % len(image) + image


async def busy(server, image=None):
    """A batch of one on the engine, which waits for its gate."""
    batcher = server.service.context.store.find(None).batcher
    server.engine.gate.clear()
    reader, writer = await server.connect()
    writer.write(upload(image or flat(1)))
    await until(lambda: batcher.batches_in_flight == 1)
    return reader, batcher


def only_connection(server):
    (connection,) = server.service._connections._open
    return connection


async def test_a_client_that_half_closes_gets_its_response(start):
    server = await start(max_batch_size=1)
    _, batcher = await busy(server)
    reader, writer = await server.connect()
    writer.write(upload(flat(2)))
    writer.write_eof()
    assert await reader.readexactly(3) == b"HTT", "the beginning finds out whether the client still reads"
    await until(lambda: batcher.queued == 1)
    server.engine.gate.set()
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"P/1.1 200 OK\r\n")
    assert b"Connection: close" in head
    assert (await reader.read()).startswith(b'{"predictions"')


async def test_a_client_that_half_closes_at_once_gets_all_its_responses_in_order(start):
    server = await start()
    reader, writer = await server.connect()
    for value in range(3):
        writer.write(upload(flat(value)).replace(b"Host: x", b"Host: x\r\nX-Request-ID: r%d" % value))
    writer.write(b"GET /hea")
    writer.write_eof()
    for value in range(3):
        status, headers, _ = await answer(reader)
        assert (status, headers["x-request-id"]) == (200, f"r{value}")
    assert await reader.read() == b""


@pytest.mark.parametrize("sent", [b"", b"GET /hea", upload(flat(1))[:-9], CHUNKED + b"5\r\nabcde\r\n"])
async def test_a_client_that_half_closes_before_its_request_is_whole_is_closed(start, sent):
    server = await start()
    reader, writer = await server.connect()
    writer.write(sent)
    writer.write_eof()
    assert await reader.read() == b""
    await until(lambda: not len(server.service._connections))


@pytest.mark.parametrize("way", ["close", "half first", "reset"])
async def test_a_client_that_leaves_takes_its_image_out_of_the_queue(start, way):
    server = await start(max_batch_size=1)
    first, batcher = await busy(server)
    leaving = socket.create_connection(server.address)
    leaving.sendall(upload(flat(9)))
    await until(lambda: batcher.queued == 1)
    if way == "half first":
        leaving.shutdown(socket.SHUT_WR)
    elif way == "reset":
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    leaving.close()
    await until(lambda: batcher.queued == 0)
    server.engine.gate.set()
    assert (await answer(first))[0] == 200
    assert sum(server.engine.batches) == 2 + 1, "two warm-ups and the one that stayed"


async def test_a_client_that_leaves_while_it_waits_for_its_response_half_closed(start):
    server = await start(max_batch_size=1)
    first, batcher = await busy(server)
    leaving = socket.create_connection(server.address)
    leaving.sendall(upload(flat(9)))
    await until(lambda: batcher.queued == 1)
    leaving.shutdown(socket.SHUT_WR)
    assert await asyncio.to_thread(leaving.recv, 1) == b"H"
    assert batcher.queued == 1
    leaving.close()
    await until(lambda: batcher.queued == 0)
    server.engine.gate.set()
    assert (await answer(first))[0] == 200


async def test_a_client_that_leaves_while_its_image_waits_for_a_thread(start):
    server = await start(decode_threads=1)
    context = server.service.context
    server.engine.gate.clear()
    blocker = asyncio.ensure_future(context.cpu_pool.run(server.engine.gate.wait))
    _, writer = await server.connect()
    writer.write(upload(flat(9)))
    deployment = context.store.find(None)
    await until(lambda: deployment.accepted == 1)
    writer.close()
    await until(lambda: deployment.accepted == 0)
    server.engine.gate.set()
    assert await blocker
    assert sum(server.engine.batches) == 2, "the warm-ups"


async def test_a_client_that_leaves_while_it_sends_its_body_frees_the_memory(start):
    server = await start()
    memory = server.service.context.bodies.memory
    _, writer = await server.connect()
    writer.write(upload(flat(1))[:-9])
    await until(lambda: memory.used > 0)
    writer.close()
    await until(lambda: memory.used == 0)


async def test_a_connection_that_sends_nothing_is_closed_without_a_word(start):
    server = await start(header_timeout_s=0.2, keepalive_timeout_s=3600.0)
    reader, _ = await server.connect()
    async with asyncio.timeout(30):
        assert await reader.read() == b""


async def test_a_client_that_leaves_the_end_of_a_response_unread_is_dropped(start):
    """Fewer bytes than the event loop would keep without a complaint, which no later timer would notice."""
    server = await start(body_timeout_s=0.3, keepalive_timeout_s=3600.0)
    _, writer = await server.connect()
    writer.transport.pause_reading()
    await until(lambda: len(server.service._connections) == 1)
    connection = only_connection(server)
    transport = connection.transport
    while not transport.get_write_buffer_size():
        asked = server.service.context.answered
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda asked=asked: server.service.context.answered > asked)
    assert transport.get_write_buffer_size() < 1 << 16
    await until(lambda: not len(server.service._connections))


async def test_small_chunks_are_parsed_in_turns(start, noise, monkeypatch):
    """A slice in every turn of the loop, however much has arrived."""
    monkeypatch.setattr(connection_module, "_AT_ONCE_S", 0.0)
    monkeypatch.setattr(turns_module, "TURN_S", 0.0)
    server, png = await start(), noise(1)
    reader, _ = await server.connect()
    body = b"".join(b"1;%s\r\n%c\r\n" % (b"x" * 400, byte) for byte in png) + b"0\r\n\r\n"
    await until(lambda: len(server.service._connections) == 1)
    turn, turns = 0, []

    def count_turns():
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(count_turns)

    count_turns()
    feed = connection_module.Connection._feed_slice
    monkeypatch.setattr(connection_module.Connection, "_feed_slice", lambda self: (turns.append(turn), feed(self)))
    only_connection(server).data_received(CHUNKED + body)
    assert (await answer(reader))[0] == 200
    assert len(turns) == -(-len(CHUNKED + body) // connection_module._SLICE) > 3
    assert len(set(turns)) == len(turns)


async def test_a_million_chunks_and_what_is_pipelined_behind_them(start, noise):
    server = await start()
    reader, writer = await server.connect()
    png = noise(1)
    small = b"".join(b"1\r\n%c\r\n" % byte for byte in png + bytes(100_000)) + b"0\r\n\r\n"
    writer.write(CHUNKED + small + upload(png) + HEALTH)
    writer.write_eof()
    assert [(await answer(reader))[0] for _ in range(3)] == [200] * 3
    assert await reader.read() == b""


async def test_beyond_the_cap_an_idle_connection_makes_room(start, monkeypatch):
    monkeypatch.setattr(connections_module, "_IDLE_S", 0.0)
    server = await start(max_connections=2)
    mute, later = [await server.connect() for _ in range(2)]
    later[1].write(HEALTH)
    assert (await answer(later[0]))[0] == 200
    reader, writer = await server.connect()
    assert await mute[0].read() == b""
    writer.write(upload(flat(1)))
    assert (await answer(reader))[0] == 200
    later[1].write(HEALTH)
    assert (await answer(later[0]))[0] == 200


async def test_beyond_the_cap_everything_but_images_is_answered(start, caplog):
    server = await start(max_connections=1)
    first, _ = await busy(server)
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/classify", 503)):
        reader, writer = await server.connect()
        writer.write(
            upload(flat(1)).replace(b"POST /classify", f"GET {path}".encode())
            if path != "/classify"
            else upload(flat(1))
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert f" {status} " in head.splitlines()[0]
        assert "Connection: close" in head
        assert ("Retry-After" in head) == (status == 503)
        body = await reader.read()
        assert (b"too-many-connections" in body) == (status == 503)
    assert [record.levelname for record in caplog.records if "connection" in record.message] == ["WARNING"]
    server.engine.gate.set()
    assert (await answer(first))[0] == 200
    await until(lambda: len(server.service._connections) <= 1)


async def test_connections_that_do_nothing_keep_no_probe_out(start):
    server = await start(max_connections=1)
    await busy(server)
    held = []
    for number in range(2 * connections_module.SPARE):
        held.append(await server.connect())
        held[-1][1].write(b"GET /hea" if number % 2 else b"")
    reader, writer = await server.connect()
    writer.write(HEALTH)
    assert (await answer(reader))[0] == 200
    server.engine.gate.set()
