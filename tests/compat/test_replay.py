"""The replay itself: it takes the recorded answers for alike, and notices each one that is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.compat import comparing
from tests.compat.recording import RECORDING, exchanges, settings_of
from tests.compat.replay import in_order
from tests.compat.wire import Request, ask

pytestmark = pytest.mark.skipif(not RECORDING.exists(), reason="the recording is not here (SNAPSERVE_SHARED)")


@contextlib.asynccontextmanager
async def speaking(answers):
    """A server that sends prepared bytes, one answer a connection, in order; gives its port."""
    left = iter(answers)

    async def answer(reader, writer):
        await reader.read(2**16)
        writer.write(next(left))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**24)
    async with server:
        yield server.sockets[0].getsockname()[1]


def on_the_wire(recorded, body=None, status=None):
    """The bytes of a recorded answer, with another body or status if they are given."""
    text = body if body is not None else recorded.get("body") or ""
    data = bytes.fromhex(text["hex"]) if isinstance(text, dict) else text.encode()
    line = recorded.get("status_line") or f"HTTP/1.1 {status or recorded['status']} {recorded.get('reason', '')}"
    headers = {name: value for name, value in recorded.get("headers", {}).items() if name != "transfer-encoding"}
    headers["content-length"] = str(len(data))
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + data


def answerable():
    """The recorded exchanges that had an answer with a body."""
    heads = {exchange.name for exchange in exchanges() if exchange.request.method == "HEAD"}
    return [
        exchange
        for exchange in exchanges()
        if exchange.recorded.get("status", 200) is not None and exchange.name not in heads
    ]


async def different(found, answers) -> dict[str, Any]:
    """Name -> our answer, of those that are not the recorded ones, when a server sends these bytes."""
    wrong = {}
    async with speaking(answers) as port:
        for exchange in found:
            answer = comparing.answered(exchange, await ask(port, Request("GET", "/")), {})
            if answer != comparing.recorded(exchange):
                wrong[exchange.name] = answer
    return wrong


async def test_recorded_answers_are_alike():
    found = answerable()
    assert len(found) > 510
    assert await different(found, [on_the_wire(exchange.recorded) for exchange in found]) == {}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("register: again", {"status": 400}),
        (
            "register: again",
            {"body": '{\n  "code": 409,\n  "type": "ConflictStatusException",\n  "message": "x"\n}\n'},
        ),
        ("ping empty", {"body": '{"status": "Healthy"}\n'}),  # the layout
        ("ping empty", {"body": '{\n  "status": "Healthy"\n}'}),  # the newline at the end
        ("out str", {"body": "plain text e"}),
        ("out none", {"body": ""}),
        ("describe one worker", {"without": '    "batchSize": 1,\n'}),
        ("describe one worker", {"replace": ('"READY"', '"UNLOADING"')}),
        ("describe one worker", {"replace": ('"minWorkers": 1', '"minWorkers": 2')}),
        ("echo json", {"replace": ('"application/json"', '"application/octet-stream"')}),
        ("per-item status in one batch [0]", {"replace": ('"one"', '"two"')}),
        ("jpeg raw POST octet", {"without": ',\n  "label_696": 0.004864037036895752'}),
        ("kserve v2: infer tensor", {"replace": ("input-0", "input-1")}),
        ("metrics filtered", {"replace": ("ts_inference_requests_total", "ts_inference_request")}),
        ("metrics POST", {"replace": (",}", "}")}),
        ("inference OPTIONS /", {"replace": ("3.0.1", "3.1.0")}),
    ],
)
async def test_a_planted_difference_is_noticed(name, change):
    (exchange,) = (each for each in exchanges() if each.name == name)
    body = change.get("body", exchange.recorded["body"])
    body = body.replace(change.get("without", ""), "") if "without" in change else body
    body = body.replace(*change["replace"]) if "replace" in change else body
    planted = on_the_wire(exchange.recorded, body, change.get("status"))
    assert list(await different([exchange], [planted])) == [name]


def test_what_each_server_was_asked_is_known():
    settings = settings_of(exchanges())
    assert len(settings) == 17
    assert [each.order for each in settings["models"] if each.group == "per-item status in one batch"] == [
        0,
        1,
        2,
        3,
    ]


def test_the_batches_that_chance_filled_are_compared_as_a_set():
    group = [each for each in exchanges() if each.group == "5 requests, batch 3"]
    theirs = [comparing.recorded(each) for each in group]
    others = [*theirs[1:], theirs[0]]
    assert in_order(group, others) == theirs
    assert in_order(group, [json.loads(json.dumps(theirs[0]))] * 5) != theirs
