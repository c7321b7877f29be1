"""Inference and management on one port: what is the management's is passed on as it came."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from server.torchserve_config import INNER_VARIABLE
from tests.compat.servers import free_ports


@pytest.fixture
async def shared(serve, tmp_path, monkeypatch):
    """Sends requests to a port of which a fake has the management; gives status and what the fake has got."""

    async def inner(request):
        return web.json_response(
            {"path": request.raw_path, "authorization": request.headers.get("Authorization", "")}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", inner)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, tmp_path / "inner").start()
    monkeypatch.setenv(INNER_VARIABLE, str(tmp_path / "inner"))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    server = await serve(inference_address=address, management_address=address)

    async def ask(target, host="x", body=b""):
        reader, writer = await asyncio.open_connection(*server.inference.removeprefix("http://").split(":"))
        headers = f"Host: {host}\r\nAuthorization: A\r\nConnection: close\r\nContent-Length: {len(body)}"
        writer.write(f"GET {target} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + body)
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), json.loads(answer)

    yield ask
    await runner.cleanup()


@pytest.mark.parametrize("host", ["x", "user:password@x", "[", "a b", "x:99999", "x/token?type=", ""])
async def test_the_host_that_a_client_names_changes_nothing(shared, host):
    assert await shared("/models/a%2Fb?c=d%20e", host) == (
        200,
        {"path": "/models/a%2Fb?c=d%20e", "authorization": "A"},
    )


async def test_a_whole_url_is_asked_here(shared):
    assert await shared("http://elsewhere:1/models") == (200, {"path": "/models", "authorization": "A"})


async def test_a_body_that_the_management_refuses_is_not_read_to_be_passed_on(shared):
    status, told = await shared("/models", body=b"x" * 65_537)
    assert status == 413 and "at most 65,536 are allowed" in told["message"]
    assert (await shared("/models", body=b"x" * 65_536))[0] == 200


async def test_what_is_no_management_is_answered_here(shared):
    assert (await shared("/ping"))[1] == {"status": "Healthy"}
