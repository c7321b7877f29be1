"""Below the application: malformed and slow requests, idle connections, the drain."""

from __future__ import annotations

import asyncio
import contextlib
import json

import aiohttp
import pytest

from runtime.errors import EngineUnavailable
from server.http.connection import MAX_ADDRESS, MAX_HEADER, MAX_HEADERS
from tests.conftest import flat
from tests.server.conftest import problem_of
from tests.server.test_classify import until

REQUEST = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


async def answer(reader):
    """One response: status, headers in lower case, parsed body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    status = int(head.split()[1])
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
    body = await reader.readexactly(int(headers["content-length"]))
    return status, headers, json.loads(body)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    ],
)
async def test_what_is_no_http_gets_a_problem_and_the_connection_ends(start, sent):
    server = await start()
    reader, writer = await server.connect()
    writer.write(sent)
    status, headers, problem = await answer(reader)
    assert status == problem["status"] == 400
    assert headers["content-type"] == "application/problem+json"
    assert headers["server"].startswith("snapserve/")
    assert problem["request_id"] == headers["x-request-id"]
    assert await reader.read() == b""


async def refusal(server, sent, chunk=1 << 20):
    """The problem that a connection ends with, when the request comes in pieces of `chunk` bytes."""
    reader, writer = await server.connect()
    for begin in range(0, len(sent), chunk):
        writer.write(sent[begin : begin + chunk])
        await writer.drain()
    status, headers, problem = await answer(reader)
    assert status == problem["status"]
    assert headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == headers["x-request-id"]
    assert await reader.read() == b""
    return problem


def request_with(headers, address="/healthz"):
    return f"GET {address} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


@pytest.mark.parametrize(
    ("status", "kind", "limit", "sent"),
    [
        (414, "address-too-long", MAX_ADDRESS, request_with("", "/" + "a" * 9000)),
        (414, "address-too-long", MAX_ADDRESS, request_with("", "/classify?image=" + "a" * 20_000)),
        (431, "header-too-long", MAX_HEADER, request_with(f"Cookie: a={'x' * 8200}\r\n")),
        (431, "header-too-long", MAX_HEADER, request_with(f"Authorization: Bearer {'x' * 20_000}\r\n")),
        (431, "header-too-long", MAX_HEADER, request_with(f"{'x' * 9000}: a\r\n")),
        (431, "too-many-headers", MAX_HEADERS, request_with("A: b\r\n" * 200)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("chunk", [1 << 20, 1000])
async def test_what_is_too_long_is_named_with_its_limit(start, status, kind, limit, sent, chunk):
    server = await start()
    problem = await refusal(server, sent, chunk)
    assert (problem["status"], problem["type"]) == (status, f"urn:snapserve:problem:{kind}")
    assert problem["limit"] == limit
    assert f"{limit:,}" in problem["detail"]
    assert "HTTP" not in problem["title"] + problem["detail"]


async def test_what_is_just_short_enough_is_served(start):
    server = await start()
    for sent in (
        request_with("", "/healthz?" + "a" * (MAX_ADDRESS - 9)),
        request_with(f"X: {'a' * (MAX_HEADER - 1)}\r\n"),
        request_with("A: b\r\n" * (MAX_HEADERS - 1)),
    ):
        reader, writer = await server.connect()
        writer.write(sent)
        assert (await answer(reader))[0] == 200


async def test_https_to_this_port_is_told_so(start):
    server = await start()
    problem = await refusal(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert "TLS" in problem["detail"]
    assert "http://" in problem["hint"]


async def test_a_broken_chunked_body_is_a_problem(start):
    server = await start()
    reader, writer = await server.connect()
    writer.write(b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    status, headers, problem = await answer(reader)
    assert status == 400
    assert "snapserve" in headers["server"]
    assert problem["type"].endswith("malformed-http")


async def test_headers_that_come_too_slowly(start):
    server = await start(header_timeout_s=0.2)
    reader, writer = await server.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHo")
    status, headers, problem = await answer(reader)
    assert status == problem["status"] == 408
    assert headers["connection"] == "close"
    assert await reader.read() == b""


async def test_a_second_request_whose_headers_come_too_slowly(start):
    server = await start(header_timeout_s=0.2)
    reader, writer = await server.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await answer(reader))[0] == 200
    writer.write(b"GET /healthz")
    assert (await answer(reader))[0] == 408


async def test_a_slow_body_is_not_taken_for_slow_headers(start):
    server, png = await start(header_timeout_s=0.1), flat(1)
    reader, writer = await server.connect()
    writer.write(REQUEST % len(png))
    for byte in (png[:20], png[20:40]):
        writer.write(byte)
        await asyncio.sleep(0.1)
    writer.write(png[40:])
    assert (await answer(reader))[0] == 200


async def test_body_bytes_in_the_same_turn_as_the_headers_do_not_start_the_header_timer(start):
    """uvloop reads several times in one turn of the loop, before the handler has begun."""
    server, png = await start(), flat(1)
    reader, writer = await server.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await answer(reader))[0] == 200
    (connection,) = server.service._connections._open
    connection.data_received(REQUEST % len(png) + png[:20])
    connection.data_received(png[20:40])
    assert connection._header_timer is None
    connection.data_received(png[40:])
    assert (await answer(reader))[0] == 200
    assert connection._header_timer is None


async def test_a_client_that_does_not_read_its_answers_is_dropped(start):
    server = await start(body_timeout_s=0.3)
    _, writer = await server.connect()
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.transport.pause_reading()
    connections = server.service._connections
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(request * 50)
                await writer.drain()
        while len(connections):
            await asyncio.sleep(0.01)


async def test_a_drain_without_patience_drops_a_client_that_does_not_read(start):
    server = await start(drain_timeout_s=0.0)
    await server.connect()
    await until(lambda: len(server.service._connections) == 1)
    assert await server.service.drain() == 0


async def test_pipelined_requests_are_answered_in_order(start, noise):
    server = await start()
    reader, writer = await server.connect()
    for seed in range(5):
        png = noise(seed)
        head = REQUEST.replace(b"Host: x", b"Host: x\r\nX-Request-ID: r%d" % seed)
        writer.write(head % len(png) + png)
    for seed in range(5):
        status, headers, _ = await answer(reader)
        assert (status, headers["x-request-id"]) == (200, f"r{seed}")


async def test_a_connection_is_closed_after_its_last_request_and_the_others_go_on(start, noise):
    server, png = await start(keepalive_requests=3), noise(1)
    spent, fresh = [await server.connect() for _ in range(2)]
    for closes in (False, False, True):
        spent[1].write(REQUEST % len(png) + png)
        status, headers, _ = await answer(spent[0])
        assert (status, headers.get("connection")) == (200, "close" if closes else None)
    assert await spent[0].read() == b""
    fresh[1].write(REQUEST % len(png) + png)
    assert (await answer(fresh[0]))[0] == 200


async def test_no_connection_is_closed_before_the_requests_that_have_arrived_are_answered(start, noise):
    server, png = await start(keepalive_requests=1), noise(1)
    reader, writer = await server.connect()
    writer.write((REQUEST % len(png) + png) * 3)
    headers = [(await answer(reader))[1] for _ in range(3)]
    assert ["connection" in each for each in headers] == [False, False, True]


async def test_a_connection_may_stay_for_ever_where_there_is_no_limit(start, noise):
    server, png = await start(keepalive_requests=0), noise(1)
    reader, writer = await server.connect()
    for _ in range(20):
        writer.write(REQUEST % len(png) + png)
        status, headers, _ = await answer(reader)
        assert (status, headers.get("connection")) == (200, None)


async def test_an_idle_connection_is_closed(start):
    server = await start(keepalive_timeout_s=1.0)
    reader, _ = await server.connect()
    async with asyncio.timeout(10):
        assert await reader.read() == b""


async def test_the_drain_answers_what_was_accepted_even_half_an_upload(start, noise):
    server, png = await start(max_batch_size=4), noise(1)
    context = server.service.context
    server.engine.gate.clear()
    waiting = [
        asyncio.ensure_future(server.session.post(server.url + "/classify", data=noise(n))) for n in range(8)
    ]
    half = await server.connect()
    half[1].write(REQUEST % len(png) + png[:30])
    idle = await server.connect()
    await until(lambda: context.in_flight == 9 and len(server.service._connections) == 10)
    draining = asyncio.ensure_future(server.service.drain())
    async with asyncio.timeout(10):
        assert await idle[0].read() == b"", "an idle connection is closed"
    with pytest.raises(OSError):
        await asyncio.open_connection(*server.address)
    assert not draining.done()
    half[1].write(png[30:])
    server.engine.gate.set()
    status, headers, _ = await answer(half[0])
    assert (status, headers["connection"]) == (200, "close")
    assert [response.status for response in await asyncio.gather(*waiting)] == [200] * 8
    assert await draining == 0
    assert server.engine.closed


async def test_a_request_that_was_on_the_wire_when_the_drain_began_is_answered(start, noise):
    server, png = await start(), noise(1)
    reader, writer = await server.connect()
    draining = asyncio.ensure_future(server.service.drain())
    writer.write(REQUEST % len(png) + png)
    assert (await answer(reader))[0] == 200
    assert await draining == 0


async def test_readyz_says_no_while_draining_and_every_answer_ends_its_connection(start):
    server = await start()
    server.service.context.draining = True
    async with server.session.get(server.url + "/readyz") as response:
        assert response.status == 503
        assert (await response.json())["type"].endswith("draining")
        assert response.headers["Connection"] == "close"
    server.service.context.draining = False


async def test_all_that_waits_for_a_stuck_engine_is_refused_at_once_and_the_drain_does_not_wait(start, noise):
    server = await start(max_batch_size=1)
    server.engine.gate.clear()
    asked = [asyncio.ensure_future(server.post(noise(n), headers={"Connection": "close"})) for n in range(3)]
    (deployment,) = server.service.context.store
    while deployment.batcher.queued < 2 or deployment.runner.busy_since is None:
        await asyncio.sleep(0.01)
    server.service.context.start_s = 5.5
    server.service.give_up(deployment)
    for response in [*await asyncio.gather(*asked), await server.post(noise(4))]:
        problem = await problem_of(response, 503)
        assert problem["type"].endswith("engine-stuck")
        assert response.headers["Retry-After"] == "8"
    assert await server.service.drain() == 0
    assert deployment.runner.busy_since is not None, "the batch has not ended"


async def test_a_request_that_cannot_be_answered_does_not_hold_up_a_process_that_gives_up(start):
    """Its body never comes."""
    server = await start(drain_timeout_s=600.0)
    (deployment,) = server.service.context.store
    _, writer = await server.connect()
    writer.write(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    while not server.service.context.in_flight:
        await asyncio.sleep(0.01)
    draining = asyncio.ensure_future(server.service.drain())
    await asyncio.sleep(0.2)  # for the drain to have begun to wait
    server.service.give_up(deployment)
    assert await draining == 1


async def test_readyz_tells_the_supervisors_count(start):
    server = await start()
    context = server.service.context
    for ready, status in ((None, 200), (0, 503), (1, 200)):
        context.ready_workers = ready
        async with server.session.get(server.url + "/readyz") as response:
            assert response.status == status
    context.ready_workers, context.start_s = 0, 7.0
    async with server.session.get(server.url + "/readyz") as response:
        assert (await problem_of(response, 503))["type"].endswith("engine-stuck")
        assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("ready_workers", [None, 0])
async def test_readyz_tells_of_an_engine_that_cannot_be_started(start, monkeypatch, ready_workers):
    server = await start()
    context = server.service.context
    (deployment,) = context.store
    context.ready_workers = ready_workers
    monkeypatch.setattr(deployment.runner, "unavailable", lambda: EngineUnavailable(7.4))
    async with server.session.get(server.url + "/readyz") as response:
        assert (await problem_of(response, 503))["type"].endswith("engine-unavailable")
        assert response.headers["Retry-After"] == "8"
    context.ready_workers = 1  # another one
    async with server.session.get(server.url + "/readyz") as response:
        assert response.status == 200


async def test_a_drain_that_takes_too_long_says_what_is_left(start, noise):
    server = await start(drain_timeout_s=0.3)
    server.engine.gate.clear()
    waiting = asyncio.ensure_future(server.session.post(server.url + "/classify", data=noise(1)))
    await until(lambda: server.service.context.in_flight == 1)
    assert await server.service.drain() == 1
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await waiting
