"""Every exchange recorded from torch-serving, sent again: the same status and JSON, or a listed difference."""

from __future__ import annotations

import json
import re
from pathlib import Path

from yarl import URL

from tests.conftest import ROOT
from tests.server.dialects.torch_serving.conftest import folder, running  # noqa: F401

DATA = Path(__file__).parent / "data"
EXCHANGES = [json.loads(line) for line in (DATA / "torch-serving-exchanges.jsonl").read_text().splitlines()]
# Name -> our status and body, where they are not those that were recorded.
DIFFERENCES = json.loads((DATA / "torch-serving-differences.json").read_text())
DOCUMENT = (ROOT / "docs/torch-serving.md").read_text()
STACK = " ...(more lines)"  # what the recorder wrote for stack frames


def body_of(body, content_type):
    """JSON as it is, anything else as text."""
    return json.loads(body) if body and "json" in content_type else body


def recorded(exchange):
    """Status and body, without what depends on random weights."""
    response = exchange["response"]
    body = body_of(response["body"], response["headers"].get("Content-Type", ""))
    if isinstance(body, dict) and isinstance(body.get("result"), str):
        body["result"] = body["result"].removesuffix(STACK)
    return response["status"], comparable(exchange["name"], body)


async def answered(server, exchange):
    """What we answer, likewise."""
    request = exchange["request"]
    url = URL(server.url + request["path"], encoded=True)
    skipped = [] if "Content-Type" in request["headers"] else ["Content-Type"]
    options = {
        "data": request["body"].encode() or None,
        "headers": request["headers"],
        "skip_auto_headers": skipped,
    }
    async with server.session.request(request["method"], url, **options) as response:
        text = (await response.text()).replace("__torch__.tests.runtime.programs.", "__torch__.")
        return response.status, comparable(exchange["name"], body_of(text, response.headers["Content-Type"]))


def comparable(name, body):
    if name == "the README example":
        first = body["result"]["value"]["out"][0][0]
        assert len(first["value"]) == 3
        first["value"] = "depends on the weights"
    return body


def listed():
    """Row of the document -> the names of its exchanges; each row begins with their number."""
    rows = re.findall(r"^\| (.+?) \| .+? \| (\d+): (.+?) \|$", DOCUMENT, re.MULTILINE)
    names = {row: each.split("; ") for row, _, each in rows}
    assert all(len(names[row]) == int(count) for row, count, _ in rows)
    return names


async def test_every_recorded_exchange_is_answered_alike_or_its_difference_is_listed(folder):  # noqa: F811
    async with running(folder) as server:
        ours = {exchange["name"]: await answered(server, exchange) for exchange in EXCHANGES}
    theirs = {exchange["name"]: recorded(exchange) for exchange in EXCHANGES}
    assert len(ours) == len(EXCHANGES) == 130
    different = {name: list(answer) for name, answer in ours.items() if answer != theirs[name]}
    assert different == DIFFERENCES
    assert all("\n" not in body["result"] for status, body in ours.values() if status == 500), "no stack frames"
    in_rows = [name for names in listed().values() for name in names]
    assert sorted(in_rows) == sorted(different), "docs/torch-serving.md lists each difference once"
    assert (
        f"Of 130 recorded exchanges {130 - len(different)} are answered alike, {len(different)} differ" in DOCUMENT
    )


async def test_the_example_of_torch_servings_readme(folder):  # noqa: F811
    (example,) = (each for each in EXCHANGES if each["name"] == "the README example")
    async with running(folder) as server:
        status, body = await answered(server, example)
    second = {"data_type": "float32", "shape": [1, 3], "type": "tensor", "value": [60.0, 33.0, 33.0]}
    assert status == 200 and body["result"]["value"]["out"][0][1] == second
    assert body["result"]["value"]["out"][1:] == [
        {"type": "string", "value": "Hello!"},
        {"data_type": "int64", "type": "scalar", "value": 30},
    ]
