"""Responses that are begun while the batch of their request still runs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest

from runtime.inputs import Part
from server.dialects.torchserve import parts


async def test_parts_arrive_before_the_batch_ends(server):
    server.probe.gate.clear()
    async with server.ask("/predictions/probe", "stream:1:wait") as response:
        assert (response.status, response.reason) == (201, "")
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.headers["Content-Type"] == "text/plain"
        assert response.headers["Pragma"] == "no-cache" and response.headers["X-Request-ID"]
        assert await response.content.readany() == b"part0 "
        server.probe.gate.set()
        assert await response.read() == b"part1 part2 last"
    assert await server.answer("/predictions/probe", "status:200") == (200, "mine"), "the connection goes on"


@pytest.mark.parametrize("version", [aiohttp.HttpVersion10, aiohttp.HttpVersion11])
async def test_who_cannot_read_chunks_gets_none(server, version):
    method = "POST" if version == aiohttp.HttpVersion10 else "HEAD"
    async with aiohttp.ClientSession(version=version) as session:
        headers = {"Content-Type": "text/plain"}
        url = f"{server.inference}/predictions/probe"
        async with session.request(method, url, data="stream", headers=headers) as response:
            assert response.status == 200
            assert "Transfer-Encoding" not in response.headers
    (fields,) = server.probe.seen
    assert fields.on_part is None


async def test_an_error_after_the_first_part_breaks_the_response_off(server):
    with pytest.raises(aiohttp.ClientPayloadError):
        async with server.ask("/predictions/probe", "stream:1:raise") as response:
            assert response.status == 201
            await response.read()
    assert await server.answer("/predictions/probe", "status:200") == (200, "mine")


async def test_a_client_that_does_not_read_costs_a_bounded_amount_and_frees_its_place(server, monkeypatch):
    monkeypatch.setattr(parts, "MOST_UNSENT", 4_000_000)
    host, port = server.inference.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, port, limit=1)
    head = b"POST /predictions/probe HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 5"
    writer.write(head + b"\r\n\r\nflood")
    deployment = server.running.service.context.store.find("probe")
    await asyncio.to_thread(server.probe.running.wait, 30)
    while deployment.accepted:  # until the connection was ended
        await asyncio.sleep(0.001)
    held = server.probe.flooded_mb
    server.probe.gate.set()
    writer.close()
    assert held < 100, "what the sockets hold, and the bound"
    assert await server.answer("/predictions/probe", "status:200") == (200, "mine")


@pytest.mark.parametrize("status", [204, 304])
async def test_parts_of_a_response_that_has_no_body_are_not_sent(server, status):
    """They would be read as the response to the next request of the connection."""
    head = b"POST /predictions/probe HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: "
    bodies = [f"stream:1::{status}".encode(), b"status:200"]
    host, port = server.inference.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, port)
    answers = []
    for body in bodies:
        writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
        answers.append(await reader.readuntil(b"\r\n\r\n"))
    assert answers[0].startswith(f"HTTP/1.1 {status} ".encode()) and b"Transfer-Encoding" not in answers[0]
    assert answers[1].startswith(b"HTTP/1.1 200 ")
    assert await reader.readexactly(4) == b"mine"
    writer.close()


class Transport:
    """Of a client that reads nothing."""

    is_aborted = False

    def abort(self):
        self.is_aborted = True


async def test_what_a_client_has_not_read_is_bounded_and_given_back_with_its_connection(monkeypatch):
    request = SimpleNamespace(transport=Transport())
    response = parts.PartsResponse(SimpleNamespace(id="x", request=request), Part(b""))
    monkeypatch.setattr(response, "prepare", lambda request: asyncio.get_running_loop().create_future())
    for _ in range(parts.MOST_UNSENT // 1_000_000):
        response.add(bytes(1_000_000))
        await asyncio.sleep(0)
    assert not request.transport.is_aborted and sum(map(len, response._unsent)) == parts.MOST_UNSENT
    response.add(b"x")
    assert request.transport.is_aborted and not response._unsent
    response.add(bytes(1_000_000))
    assert not response._unsent, "nothing is kept for a client that is gone"
    response._sender.cancel()
