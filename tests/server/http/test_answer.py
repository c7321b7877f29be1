"""The request path under overload: who is refused, when, and what becomes of the connection."""

from __future__ import annotations

import asyncio

from tests.conftest import flat
from tests.server.test_classify import until


async def overloaded(server):
    """A server whose engine is busy for longer than the target; the request that keeps it busy."""
    deployment = server.service.context.store.find(None)
    server.engine.gate.clear()
    first = asyncio.ensure_future(server.session.post(server.url + "/classify", data=flat(1)))
    await until(lambda: deployment.batcher.batches_in_flight == 1)
    for _ in range(200):
        deployment.batcher.batch_time.add(1, 1.0)
    waiting = asyncio.ensure_future(server.session.post(server.url + "/classify", data=flat(2)))
    return first, waiting


def raw(body, headers=""):
    return f"POST /classify HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()


async def head_of(reader):
    return (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode().lower()


async def test_a_client_that_asks_is_refused_before_its_upload(start):
    server = await start(target_latency_ms="100", max_batch_size=1)
    held = await overloaded(server)
    reader, writer = await server.connect()
    writer.write(raw(flat(3), "Expect: 100-continue\r\n"))
    head = await head_of(reader)
    assert head.startswith("http/1.1 503")
    assert "retry-after: " in head
    assert "connection: close" in head
    server.engine.gate.set()
    await asyncio.gather(*held)


async def test_a_refused_client_keeps_its_connection_and_its_retry_finds_room(start):
    server = await start(target_latency_ms="100", max_batch_size=1)
    held = await overloaded(server)
    reader, writer = await server.connect()
    writer.write(raw(flat(3)) + flat(3))
    head = await head_of(reader)
    assert head.startswith("http/1.1 503")
    assert "connection: close" not in head
    await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    server.engine.gate.set()
    assert [each.status for each in await asyncio.gather(*held)] in ([200, 200], [200, 503])
    writer.write(raw(flat(3)) + flat(3))
    assert (await head_of(reader)).startswith("http/1.1 200")


async def test_health_and_metrics_are_answered_while_images_are_refused(start):
    server = await start(target_latency_ms="100", max_batch_size=1)
    held = await overloaded(server)
    async with server.post(flat(3)) as response:
        assert response.status == 503
        assert (await response.json())["type"].endswith("overloaded")
    for path in ("/healthz", "/readyz", "/metrics", "/models"):
        async with server.session.get(server.url + path) as response:
            assert response.status == 200
    assert await server.metric('snapserve_requests_total{outcome="overloaded"}') >= 1
    assert await server.metric('snapserve_target_latency_seconds{model="hash",version="1"}') == 0.1
    server.engine.gate.set()
    await asyncio.gather(*held)
