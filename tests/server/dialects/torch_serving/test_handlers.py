"""torch-serving's API over real sockets: its envelope, the order of its checks, models that requests open."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys

import aiohttp
import pytest

from runtime.errors import ModelLoading, Overloaded
from tests.conftest import flat
from tests.runtime import programs
from tests.server.dialects.torch_serving.conftest import running

ONE = {"type": "tensor", "shape": [1], "value": [1.0]}
RESULT = {"data_type": "float32", "shape": [1], "type": "tensor", "value": [1.0]}
SUCCESS = {"code": 200, "description": "Success", "message": "OK"}


def client_error(description, result=None):
    found = {"code": 400, "description": description, "message": "Client Error"}
    return (400, found if result is None else {**found, "result": result})


INVALID = client_error("Invalid servable identifier")


async def test_a_call_and_its_envelope(server):
    async with server.serve("id.pt", ONE) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Request-ID"] and "infer" in response.headers["Server-Timing"]
        text = await response.text()
    assert text == (
        '{"code":200,"description":"Success","message":"OK","result":'
        '{"data_type":"float32","shape":[1],"type":"tensor","value":[1.0]}}'
    )


async def test_the_checks_come_in_their_order(server):
    bad = b"{bad"
    async with server.session.post(f"{server.url}/serve?x=1", data=b"") as response:
        found = client_error("Missing required parameter `servable_identifier`")
        assert (response.status, await response.json()) == found
    twice = f"{server.url}/serve?servable_identifier=id.pt&servable_identifier=id.pt"
    async with server.session.post(twice, data=bad) as response:
        assert (await response.json())["description"].endswith("must only be passed in once")
    assert await server.answer("missing.pt", b"") == client_error("Empty body")
    text = "parse error at line 1, column 2: unexpected character, expected a string key"
    assert await server.answer("missing.pt", bad) == client_error("Invalid JSON", text)
    assert await server.answer("missing.pt", {}) == INVALID
    incomplete = "Error parsing payload, missing required attributes 'type' and 'value'."
    assert await server.answer("id.pt", {}) == client_error("Invalid Input JSON", incomplete)
    mismatch = "Dimension mismatch - shape expected 2 total elements, found 1 total elements"
    two_faults = [{**ONE, "shape": [2]}, {}]
    assert await server.answer("id.pt", two_faults) == client_error("Incompatible tensor shapes", mismatch)


@pytest.mark.parametrize("name", ["", "missing.pt", "folder", "notmodel.pt", "a b.pt"])
async def test_what_is_no_model_is_an_invalid_identifier_and_hurts_nobody_else(server, name):
    assert await server.answer(name, ONE) == INVALID
    assert (await server.answer("id.pt", ONE))[0] == 200


async def test_an_error_of_the_model_is_500_in_one_line_and_is_logged(server, caplog):
    status, answer = await server.answer("raises.pt", ONE)
    assert status == answer["code"] == 500
    assert (answer["description"], answer["message"]) == ("Unexpected server error", "Server Error")
    assert answer["result"] == (
        "The following operation failed in the TorchScript interpreter. "
        "builtins.ValueError: positive numbers are not liked"
    )
    assert "Traceback of TorchScript" in caplog.text, "the log has all of it"
    assert (await server.answer("raises.pt", {**ONE, "value": [-1]}))[0] == 200
    assert server.opened == ["raises.pt"], "an error does not drop the model"


async def test_a_fault_of_the_client_does_not_drop_the_model(server):
    for body in (ONE, {}, {**ONE, "shape": [2]}, {"type": "string", "value": "x"}, ONE):
        await server.answer("id.pt", body)
    assert server.opened == ["id.pt"]


async def test_a_file_that_changed_is_read_after_its_model_was_forgotten(folder, tmp_path):
    programs.save(programs.Int(), tmp_path / "m.pt")
    three, url = {"type": "scalar", "value": 3, "data_type": "int64"}, "/serve?servable_identifier=m.pt"
    async with running(tmp_path) as server:
        assert (await server.answer("m.pt", three))[1]["result"]["value"] == 6
        programs.save(programs.Str(), tmp_path / "m.pt")
        assert (await server.answer("m.pt", three))[1]["result"]["value"] == 6, "not noticed while it is open"
        for _ in range(2):  # the second finds nothing to forget
            async with server.session.delete(server.url + url) as response:
                assert (response.status, await response.json()) == (200, SUCCESS)
        assert (await server.answer("m.pt", {"type": "string", "value": "x"}))[1]["result"]["value"] == "x!"
        assert server.opened == ["m.pt"] * 2
        async with server.session.delete(f"{server.url}/serve") as response:
            assert response.status == 400


async def test_health(server):
    async with server.session.get(f"{server.url}/healthcheck") as response:
        assert await response.text() == '{"code":200,"description":"OK","message":"OK"}'
    async with server.session.head(f"{server.url}/healthcheck") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == "46"
    server.context.draining = True
    async with server.session.get(f"{server.url}/healthcheck") as response:
        assert response.status == (await response.json())["code"] == 503


ELSEWHERE = [
    ("GET", "/serve"),
    ("PUT", "/serve"),
    ("OPTIONS", "/serve"),
    ("POST", "/healthcheck"),
    ("GET", "/"),
    ("POST", "/x"),
]


@pytest.mark.parametrize(("method", "path"), ELSEWHERE)
async def test_any_other_address_or_method_is_a_bare_404(server, method, path):
    async with server.session.request(method, server.url + path, data=b"{}") as response:
        assert (response.status, response.headers["Content-Type"]) == (404, "text/plain")
        assert await response.read() == b"" and "Allow" not in response.headers


async def test_the_content_type_does_not_matter_unless_it_says_form(server):
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/octet-stream"):
        status, _ = await server.answer("id.pt", json.dumps(ONE), headers={"Content-Type": kind})
        assert status == 200
    body = json.dumps({"type": "string", "value": "a&servable_identifier=b"})
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await server.answer("str.pt", body, headers=kind))[1]["result"]["value"] == "a&servable_identifier=b!"
    async with server.serve("id.pt", json.dumps(ONE), headers={"Content-Type": "multipart/form-data"}) as response:
        assert (response.status, response.content_type, await response.read()) == (400, "text/plain", b"")


async def test_a_body_in_chunks_and_one_with_a_byte_order_mark(server):
    async def chunks():
        for byte in json.dumps(ONE).encode():
            yield bytes([byte])

    async with server.session.post(f"{server.url}/serve?servable_identifier=id.pt", data=chunks()) as response:
        assert (await response.json())["result"] == RESULT
    assert (await server.answer("id.pt", b"\xef\xbb\xbf" + json.dumps(ONE).encode()))[0] == 200


async def test_a_long_body_is_parsed_on_the_cpu_pool(server):
    values = [float(n) for n in range(100_000)]
    status, answer = await server.answer("id.pt", {"type": "tensor", "shape": [100_000], "value": values})
    assert status == 200 and answer["result"]["value"] == values


async def test_our_own_limits_are_told_in_the_envelope(folder):
    async with running(folder, max_body_mb=0.001) as server:
        status, answer = await server.answer("id.pt", b" " * 1001)
        assert (status, answer["code"], answer["message"]) == (413, 413, "Client Error")
        assert "1,000" in answer["result"]
        headers = {"X-Request-Timeout-Ms": "soon"}
        status, answer = await server.answer("id.pt", ONE, headers=headers)
        assert (status, answer["message"]) == (400, "Client Error")
        status, answer = await server.answer("id.pt", ONE, headers={"Content-Encoding": "gzip"})
        assert (status, answer["code"]) == (415, 415)


@pytest.mark.parametrize(
    ("error", "status"), [(Overloaded(7), 503), (ModelLoading("x", 3.0), 503), (KeyError("secret"), 500)]
)
async def test_our_own_faults_are_told_in_the_envelope(server, monkeypatch, error, status):
    def fail(name, version=None):
        raise error

    monkeypatch.setattr(server.models, "peek", fail)
    async with server.serve("id.pt", ONE) as response:
        answer = await response.json()
        assert response.status == answer["code"] == status
        assert answer["message"] == "Server Error" and "secret" not in answer["result"]
        assert ("Retry-After" in response.headers) == (status == 503)


async def test_a_deadline_that_passes_is_504(server):
    await server.answer("id.pt", ONE)
    status, answer = await server.answer("id.pt", ONE, headers={"X-Request-Timeout-Ms": "0.000001"})
    assert (status, answer["code"], answer["message"]) == (504, 504, "Server Error")


async def test_far_more_objects_than_anybody_has_are_refused_before_they_are_made(server):
    status, answer = await server.answer("id.pt", io.BytesIO(b"[" + b"{}," * 1_000_001 + b"{}]"))
    assert status == 413 and "objects" in answer["result"]


async def test_an_image_becomes_a_tensor(tmp_path):
    programs.save(programs.Id(), tmp_path / "m.pt")
    settings = {"preprocess": {"preset": "none", "resize_size": 4, "crop_size": 4}}
    (tmp_path / "m.json").write_text(json.dumps(settings))
    image = {"type": "image", "value": base64.b64encode(flat(51)).decode()}
    async with running(tmp_path) as server:
        status, answer = await server.answer("m.pt", image)
        assert status == 200 and answer["result"]["shape"] == [1, 3, 4, 4]
        assert answer["result"]["value"] == pytest.approx([0.2] * 48)
        for value, code in [("%", 400), (5, 400), ("", 400), (base64.b64encode(b"GIF89a").decode(), 415)]:
            status, answer = await server.answer("m.pt", {"type": "image", "value": value})
            assert status == answer["code"] == code and answer["message"] == "Client Error"


async def test_100_first_requests_open_a_model_once(folder):
    async with running(folder) as server:
        answers = await asyncio.gather(*(server.answer("id.pt", ONE) for _ in range(100)))
        assert all(answer == (200, {**SUCCESS, "result": RESULT}) for answer in answers)
        assert server.opened == ["id.pt"]


@pytest.mark.alone
async def test_nothing_outside_the_store_is_opened(tmp_path):
    opened_files = []
    sys.addaudithook(lambda event, words: opened_files.append(str(words[0])) if event == "open" else None)
    store, outside = tmp_path / "store", tmp_path / "outside"
    for each in (store, outside):
        each.mkdir()
    secret = programs.save(programs.Id(), outside / "secret.pt")
    programs.save(programs.Id(), store / "inside.pt")
    (store / "link.pt").symlink_to(secret)
    (store / "up").symlink_to(outside)
    (store / "same.pt").symlink_to(store / "inside.pt")
    relative = "../outside/secret.pt"
    attacks = [
        relative,
        f"./{relative}",
        "inside.pt/../../outside/secret.pt",
        "..",
        "../store/inside.pt",
        str(secret),
        f"//{secret}",
        f"file://{secret}",
        f"http://127.0.0.1{secret}",
        "link.pt",
        "up/secret.pt",
        "inside.pt\0",
        f"{secret}\0inside.pt",
        "%2e%2e/outside/secret.pt",
        "..\\outside\\secret.pt",
        "a/" * 3000,
        "x" * 5000,
        "~/secret.pt",
        "\udcff",
    ]
    async with running(store) as server:
        opened_files.clear()
        for name in attacks:
            assert await server.answer(name.encode("utf-8", "replace").decode(), ONE) == INVALID, name
        names = [f"no{number}.pt" for number in range(300)]
        answers = await asyncio.gather(*(server.answer(name, ONE) for name in names))
        assert set(map(str, answers)) == {str(INVALID)}
        assert [each for each in opened_files if str(outside) in each] == []
        assert (await server.answer("same.pt", ONE))[0] == 200, "a link within the store is none"
    assert any("inside.pt" in each for each in opened_files), "what is opened is seen"


async def test_a_client_that_leaves_while_its_model_is_opened_does_no_harm(folder):
    async with running(folder) as server:
        timeout = aiohttp.ClientTimeout(total=0.001)
        with pytest.raises((TimeoutError, aiohttp.ClientError)):
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(f"{server.url}/serve?servable_identifier=id.pt", json=ONE),
            ):
                pass
        assert (await server.answer("id.pt", ONE))[0] == 200
