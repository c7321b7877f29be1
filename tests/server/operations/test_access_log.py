"""One line for each request, that no client can forge, and that holds nobody up."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from server.http.forwarded import Proxies
from server.operations.access_log import AccessLog
from tests.conftest import flat
from tests.server.test_classify import form, until


class Lines(list):
    """Takes the place of a `LineWriter`."""

    offer = list.append


@pytest.fixture
def logged(monkeypatch):
    """Lines of every server that is started from now on."""
    lines = Lines()
    monkeypatch.setattr("server.operations.access_log.line_writer", lambda *_: lines)
    return lines


async def one(logged, count=1):
    await until(lambda: len(logged) == count)
    return json.loads(logged[-1])


async def test_the_line_of_a_classified_image(start, logged):
    server = await start(access_log=True, access_log_format="json")
    async with server.post(
        form(("a.png", flat(1)), ("b.png", flat(2))), headers={"X-Request-ID": "r-1"}
    ) as response:
        size = len(await response.read())
    line = await one(logged)
    assert line.pop("duration_ms") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert size < line.pop("bytes") < size + 1000, "with the headers"
    assert line.pop("user_agent").startswith("Python/")
    assert line == {
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/classify",
        "status": 200,
        "outcome": "ok",
        "model": "hash",
        "images": 2,
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "outcome"),
    [
        ("/classify", b"hello", 415, "unsupported-format"),
        ("/classify", form(("a", b"x"), ("b", b"y")), 422, "all-failed"),
        ("/classify?top_k=x", flat(1), 400, "bad-request"),
        ("/nothing", b"", 404, "not-found"),
    ],
)
async def test_the_outcome_is_the_kind_of_the_problem(start, logged, path, body, status, outcome):
    server = await start(access_log=True, access_log_format="json")
    async with server.post(body, path) as response:
        assert response.status == status
    line = await one(logged)
    assert (line["status"], line["outcome"], line["path"]) == (status, outcome, path.partition("?")[0])


async def test_what_is_refused_below_the_application_has_a_line(start, logged):
    server = await start(access_log=True, access_log_format="json")
    reader, writer = await server.connect()
    writer.write(b"GET / HTTP/1.1\r\nCookie: " + b"x" * 9000 + b"\r\n\r\n")
    await reader.read()
    line = await one(logged)
    assert (line["status"], line["outcome"]) == (431, "header-too-long")
    assert line["request_id"] != "-"


async def test_a_client_that_leaves_has_a_line(start, logged):
    server = await start(access_log=True, access_log_format="json")
    server.engine.gate.clear()
    leaving = asyncio.ensure_future(server.session.post(server.url + "/classify", data=flat(1)))
    await until(lambda: server.service.context.in_flight == 1)
    leaving.cancel()
    line = await one(logged)
    assert (line["status"], line["outcome"]) == (499, "client-left")


@pytest.mark.parametrize("probes", [False, True])
async def test_probes_are_left_out_unless_asked_for(start, logged, probes):
    server = await start(access_log=True, access_log_probes=probes, root_path="/vision")
    paths = ("/healthz", "/readyz/", "/metrics", "/vision/readyz", "/models")
    for path in paths:
        async with server.session.get(server.url + path) as response:
            assert response.status == 200
    await until(lambda: logged and " /models " in logged[-1])
    assert len(logged) == (len(paths) if probes else 1)


@pytest.mark.parametrize("format", ["text", "json"])
async def test_no_client_can_forge_or_break_a_line(start, logged, format):
    server = await start(access_log=True, access_log_format=format)
    reader, writer = await server.connect()
    # Not the control characters that the parser refuses: a tab, a line separator, what is no UTF-8, emoji.
    agent = b'x" 200 ok \tGET / \xff\xe2\x80\xa8' + b"\xf0\x9f\x98\x80" * 1000
    path = b"/a%0aGET%20/%22" + b"b" * 3000
    writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: ")
    writer.write(agent + b"\r\nX-Request-ID: \"id=2'\r\n\r\n")
    await reader.read()
    await until(lambda: logged)
    (line,) = logged
    assert line.isascii() and line.isprintable()
    assert len(line) < 4096
    if format == "json":
        assert json.loads(line)["path"].startswith("/a%0aGET%20/%22")
    else:
        words = line.split(" ", 9)
        assert " id=\\\"id=2' " in line
        assert words[1:3] == ["127.0.0.1", "GET"]
        assert words[4:6] == ["404", "not-found"]
        assert words[3].startswith("/a%0aGET%20/%22")


async def test_the_client_is_the_forwarded_one_where_the_proxy_is_trusted(start, logged):
    for trusted, client in (((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9")):
        server = await start(access_log=True, access_log_format="json", trusted_proxy=trusted)
        headers = {"X-Forwarded-For": "8.8.8.8, 203.0.113.9"}
        async with server.session.get(server.url + "/models", headers=headers) as response:
            assert response.status == 200
        await until(lambda: logged)
        assert json.loads(logged.pop())["client"] == client


async def test_no_access_log_unless_asked_for(start, logged):
    server = await start()
    async with server.session.get(server.url + "/models") as response:
        assert response.status == 200
    assert server.service.context.access_log is None


def test_every_line_is_of_the_same_log():
    log = AccessLog("text", False, Proxies((), ""), Lines())
    assert log.enabled
