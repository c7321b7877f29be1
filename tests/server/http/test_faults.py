"""The table of DESIGN §9, row by row, through a real socket: typed, with a request id, without library text."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import struct
import zlib

import aiohttp
import numpy as np
import pytest
from PIL import Image

from batching import DeadlineExceeded, ItemFailed, QueueFull
from models.errors import (
    CodeRefused,
    ModelError,
    StrippedImage,
    TooCostly,
    TooManyPixels,
    TooMuchMemory,
    UndecodableImage,
    UnsupportedFormat,
    UnsupportedImage,
)
from runtime.errors import (
    ChangeFailed,
    EngineDied,
    EngineStuck,
    EngineTimeout,
    EngineUnavailable,
    InvalidInput,
    LastModel,
    ModelLoading,
    ModelRaised,
    ModelRefused,
    ModelUnloaded,
    NoRoom,
    NotScalable,
    NoWorkers,
    Overloaded,
    TooManyChanges,
    TooManyModels,
    UnknownModel,
    UnsupportedOutput,
    VersionInUse,
    VersionTaken,
)
from server.http.faults import (
    TABLE,
    BadRequest,
    BodyTooLarge,
    CompressedBody,
    Draining,
    Fault,
    FormWithoutType,
    Leaving,
    NoModelStore,
    OutOfUploadMemory,
    Refusal,
    SlowBody,
    TooManyConnections,
    Unauthorized,
    fault_of,
)
from tests.conftest import encode, flat
from tests.server.conftest import problem_of as read_problem
from tests.server.test_classify import form, until

MULTIPART = {"Content-Type": "multipart/form-data; boundary=XX"}
JSON = {"Content-Type": "application/json"}


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def huge_png():
    """A PNG of 20,000 x 20,000 pixels by its header, and of a few bytes in truth."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def image(format, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("status", "kind", "body", "headers", "query"),
    [
        (400, "bad-request", b"", {}, ""),
        (400, "bad-request", b"no form", MULTIPART, ""),
        (400, "bad-request", b"--XX--\r\n", MULTIPART, ""),
        (400, "bad-request", b"", {"Content-Type": "multipart/form-data"}, ""),
        (400, "bad-request", form(top_k="3"), {}, ""),
        (400, "bad-request", form(("", b"")), {}, ""),
        (400, "bad-request", b"{not json", JSON, ""),
        (400, "bad-request", b"[" * 100_000, JSON, ""),
        (400, "bad-request", b'{"inputs": "%%%"}', JSON, ""),
        (400, "bad-request", b'{"inputs": 7}', JSON, ""),
        (400, "bad-request", b'{"inputs": []}', JSON, ""),
        (400, "bad-request", b'{"inputs":[' + b"[]," * 5000 + b"[]]}", JSON, ""),
        (413, "too-large", form(*[("a.png", b"x")] * 100), {}, ""),
        (400, "bad-request", b'{"inputs": "", "parameters": 3}', JSON, ""),
        (400, "bad-request", flat(1), {}, "?top_k=0"),
        (400, "bad-request", flat(1), {}, "?top_k=11"),
        (400, "bad-request", flat(1), {}, "?top_k=x"),
        (400, "bad-request", flat(1), {}, "?format=xml"),
        (400, "bad-request", flat(1), {}, "?min_score=2"),
        (400, "bad-request", flat(1), {"X-Request-Timeout-Ms": "soon"}, ""),
        (400, "bad-request", flat(1), {"X-Request-Timeout-Ms": "-5"}, ""),
        (404, "unknown-model", flat(1), {}, "?model=missing"),
        (404, "unknown-model", form(("a.png", flat(1)), model="missing"), {}, ""),
        (413, "too-many-pixels", huge_png(), {}, ""),
        (415, "unsupported-format", b"hello", {}, ""),
        (415, "unsupported-format", image("GIF"), {}, ""),
        (415, "unsupported-format", image("TIFF"), {}, ""),
        (415, "unsupported-format", image("BMP"), {}, ""),
        (415, "unsupported-format", b"\0\0\0\x18ftypheic" + bytes(40), {}, ""),
        (415, "unsupported-format", b"%PDF-1.7", {}, ""),
        (415, "compressed-body", gzip.compress(flat(1), mtime=0), {"Content-Encoding": "gzip"}, ""),
        (422, "undecodable", image("JPEG")[:200], {}, ""),
        (422, "undecodable", image("PNG")[:48], {}, ""),
        (422, "undecodable", image("WEBP")[:-9], {}, ""),
        (422, "undecodable", b"\xff\xd8\xff" + bytes(50), {}, ""),
        (
            422,
            "unsupported-picture",
            image("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
            {},
            "",
        ),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_bad_input_gets_its_row(start, status, kind, body, headers, query):
    server = await start()
    async with server.post(body, "/classify" + query, headers={**headers, "X-Request-ID": "mine"}) as response:
        problem = await read_problem(response, status)
    assert problem["type"] == f"urn:snapserve:problem:{kind}"
    assert problem["request_id"] == "mine"
    assert await server.metric(f'snapserve_requests_total{{outcome="{kind}"}}') == 1
    async with server.post(flat(1)) as response:
        assert response.status == 200, "it is still alive"


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (image("GIF"), "GIF"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"%PDF-1.7", "PDF"),
        (image("TIFF"), "TIFF"),
    ],
)
async def test_the_hint_names_the_format_that_was_seen(start, body, seen):
    server = await start()
    async with server.post(body) as response:
        assert seen in (await read_problem(response, 415))["hint"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_an_image_that_curl_has_sent_as_text_is_told_from_a_damaged_one(start, kind):
    server, form = await start(), {"Content-Type": "application/x-www-form-urlencoded"}
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    sent = encode(pixels, kind).translate(None, b"\0\r\n")
    async with server.post(sent, headers=form) as response:
        assert "curl -d removes them, --data-binary" in (await read_problem(response, 422))["detail"]


async def test_unknown_routes_and_methods(start):
    server = await start()
    async with server.session.get(server.url + "/nothing/here") as response:
        await read_problem(response, 404)
    async with server.session.get(server.url + "/models/missing") as response:
        await read_problem(response, 404)
    async with server.session.get(server.url + "/classify") as response:
        problem = await read_problem(response, 405)
        assert response.headers["Allow"] == "POST,PUT"
        assert "takes POST, PUT" in problem["detail"]
        assert "POST /classify" in problem["hint"]


@pytest.mark.parametrize(
    "path", ["/Classify", "//classify", "/classify/cat.jpg", "/predict", "/v1/classify", "/models/a/b"]
)
async def test_an_address_near_by_names_the_right_one(start, path):
    server = await start()
    reader, writer = await server.connect()
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404")
    assert "POST /classify" in json.loads(body)["hint"]


async def test_too_many_bytes_announced_sent_or_in_one_file(start):
    server = await start(max_body_mb=0.01, max_image_mb=0.005)
    async with server.post(bytes(10_001)) as response:
        problem = await read_problem(response, 413)
        assert (problem["limit"], problem["actual"]) == (10_000, 10_001)

    async def chunks():
        for _ in range(20):
            yield bytes(1000)

    async with server.post(chunks()) as response:
        assert (await read_problem(response, 413))["limit"] == 10_000
    async with server.post(flat(1) + bytes(5000)) as response:
        problem = await read_problem(response, 413)
        assert problem["limit"] == 5000
        assert problem["actual"] > 5000
    async with server.post(form(("big", flat(1) + bytes(5000)), ("small.png", flat(1)))) as response:
        answer = await response.json()
    assert answer["results"][0]["error"]["status"] == 413
    assert answer["results"][1]["predictions"]


async def test_base64_limits_count_decoded_bytes(start):
    server = await start(max_image_mb=0.009)
    encoded = "A" * 11_000  # 8,250 bytes
    async with server.post(json.dumps({"inputs": encoded}), headers=JSON) as response:
        await read_problem(response, 415)


async def test_too_many_files(start):
    server = await start(max_files=2)
    async with server.post(form(*[("a.png", flat(1))] * 3)) as response:
        problem = await read_problem(response, 413)
    assert (problem["limit"], problem["actual"]) == (2, 3)


async def test_too_large_is_said_before_the_upload_to_who_asks(start):
    server = await start(max_body_mb=0.01)
    reader, writer = await server.connect()
    writer.write(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\nExpect: 100-continue\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in head.lower()
    assert b"x-request-id: " in head.lower()
    assert b"server: snapserve" in head.lower()


async def test_who_asks_and_may_is_told_to_continue(start):
    server, png = await start(), flat(1)
    reader, writer = await server.connect()
    expect = f"Content-Length: {len(png)}\r\nExpect: 100-continue"
    writer.write(f"POST /classify HTTP/1.1\r\nHost: x\r\n{expect}\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(png)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_body_that_comes_too_slowly(start):
    server = await start(body_timeout_s=0.2)
    reader, writer = await server.connect()
    writer.write(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in head


async def test_a_body_that_stops_is_at_fault_although_the_deadline_passes_first(start):
    server = await start(body_timeout_s=20.0, request_timeout_ms=1200.0)
    reader, writer = await server.connect()
    writer.write(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408")


async def test_a_deadline_that_passes_while_the_body_arrives_is_the_deadline(start):
    server = await start()
    reader, writer = await server.connect()
    headers = b"Host: x\r\nX-Request-Timeout-Ms: 200\r\nContent-Length: 1000\r\n\r\n"
    writer.write(b"POST /classify HTTP/1.1\r\n" + headers + b"abc")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 504")


async def test_a_full_server_refuses_at_once_with_retry_after(start, noise):
    server = await start(queue_limit=3, max_batch_size=1)
    server.engine.gate.clear()
    deployment = server.service.context.store.find(None)
    sent = [asyncio.ensure_future(server.session.post(server.url + "/classify", data=noise(n))) for n in range(3)]
    await until(lambda: deployment.accepted == 3)
    async with server.post(noise(9)) as response:
        problem = await read_problem(response, 503)
        assert problem["type"].endswith("queue-full")
        assert int(response.headers["Retry-After"]) >= 1
    server.engine.gate.set()
    assert [response.status for response in await asyncio.gather(*sent)] == [200] * 3


async def test_uploads_that_fill_their_memory_are_refused(start):
    server = await start(max_upload_memory_mb=1.0)
    _, writer = await server.connect()
    writer.write(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(990_000))
    memory = server.service.context.bodies.memory
    await until(lambda: memory.used == 990_000)
    async with server.post(bytes(20_000)) as response:
        problem = await read_problem(response, 503)
        assert problem["type"].endswith("queue-full")
    writer.close()
    await until(lambda: memory.used == 0)
    async with server.post(flat(1)) as response:
        assert response.status == 200


@pytest.mark.parametrize("phase", ["queue", "decode"])
async def test_a_deadline_that_passes(start, noise, phase):
    server = await start(max_batch_size=1, decode_threads=1)
    deployment = server.service.context.store.find(None)
    server.engine.gate.clear()
    first = asyncio.ensure_future(server.session.post(server.url + "/classify", data=noise(1)))
    await until(lambda: deployment.batcher.batches_in_flight == 1)
    if phase == "decode":
        blocker = asyncio.ensure_future(server.service.context.cpu_pool.run(server.engine.gate.wait))
    async with server.post(noise(2), headers={"X-Request-Timeout-Ms": "50"}) as response:
        problem = await read_problem(response, 504)
    assert problem["type"].endswith("deadline-exceeded")
    server.engine.gate.set()
    if phase == "decode":
        assert await blocker
    assert (await first).status == 200


async def test_a_deadline_that_passes_while_the_body_is_still_coming(start):
    server = await start()
    reader, writer = await server.connect()
    writer.write(
        b"POST /classify HTTP/1.1\r\nHost: x\r\nX-Request-Timeout-Ms: 50\r\nContent-Length: 1000\r\n\r\nabc"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 504")


async def test_a_deadline_that_passes_while_a_long_form_waits_for_a_thread(start):
    server = await start(decode_threads=1)
    server.engine.gate.clear()
    blocker = asyncio.ensure_future(server.service.context.cpu_pool.run(server.engine.gate.wait))
    long_form = form(*[("a.png", flat(1) + bytes(700_000))] * 2)
    async with server.post(long_form, headers={"X-Request-Timeout-Ms": "100"}) as response:
        await read_problem(response, 504)
    server.engine.gate.set()
    assert await blocker


async def test_not_ready_while_loading(start):
    server = await start(load=False)
    for path in ("/readyz", "/classify"):
        async with server.session.request(
            "POST" if path == "/classify" else "GET", server.url + path, data=flat(1)
        ) as response:
            problem = await read_problem(response, 503)
            assert problem["type"].endswith("not-ready")
            assert response.headers["Retry-After"] == "1"
    async with server.session.get(server.url + "/healthz") as response:
        assert response.status == 200


async def test_what_we_do_not_expect_is_500_without_a_word_of_it(start, monkeypatch, caplog):
    server = await start()

    async def explode(*arguments):
        raise ZeroDivisionError("secret 0x7f00 /etc/passwd")

    monkeypatch.setattr(type(server.service.context.store.find(None)), "infer", explode)
    async with server.post(flat(1)) as response:
        problem = await read_problem(response, 500)
    assert "secret" not in str(problem)
    assert "secret" in caplog.text
    assert problem["request_id"] in caplog.text


def item_failed(cause):
    """As the batcher tells it."""
    failed = ItemFailed("x")
    failed.__cause__ = cause
    return failed


ROWS = {
    BadRequest("x"): (400, "bad-request"),
    aiohttp.web.RequestPayloadError("x"): (400, "malformed-http"),
    UnknownModel("x"): (404, "unknown-model"),
    CodeRefused("/secret/file.pt: is a program"): (403, "code-refused"),
    aiohttp.web.HTTPNotFound(): (404, "not-found"),
    aiohttp.web.HTTPMethodNotAllowed("PUT", ["POST"]): (405, "method-not-allowed"),
    SlowBody("x"): (408, "slow-body"),
    TooManyConnections(): (503, "too-many-connections"),
    BodyTooLarge("x", 1, 2): (413, "too-large"),
    TooManyPixels(1, 2): (413, "too-many-pixels"),
    TooCostly(1, 2): (413, "too-costly"),
    TooMuchMemory(1, 2): (413, "too-much-memory"),
    UnsupportedFormat(None): (415, "unsupported-format"),
    FormWithoutType(): (415, "unsupported-format"),
    CompressedBody("x"): (415, "compressed-body"),
    aiohttp.web.HTTPExpectationFailed(): (417, "expectation-failed"),
    StrippedImage(): (422, "undecodable"),
    UndecodableImage("PNG"): (422, "undecodable"),
    UnsupportedImage("lossless JPEG"): (422, "unsupported-picture"),
    InvalidInput("x"): (422, "invalid-input"),
    Refusal(Fault(418, "teapot", "x", "y")): (418, "teapot"),
    item_failed(ModelRaised("x")): (500, "model-raised"),
    item_failed(UnsupportedOutput("dtype", "x")): (500, "model-raised"),
    item_failed(EngineDied("secret")): (422, "engine-crash"),
    item_failed(EngineTimeout("secret")): (422, "engine-timeout"),
    ItemFailed("x"): (500, "internal-error"),
    item_failed(ValueError("secret")): (500, "internal-error"),
    item_failed(EngineUnavailable(3.2)): (503, "engine-unavailable"),
    EngineUnavailable(3.2): (503, "engine-unavailable"),
    KeyError("x"): (500, "internal-error"),
    QueueFull(1.5): (503, "queue-full"),
    Overloaded(3): (503, "overloaded"),
    OutOfUploadMemory("x"): (503, "queue-full"),
    Draining(): (503, "draining"),
    ModelUnloaded("x"): (503, "model-unloaded"),
    Leaving(): (503, "draining"),
    ModelError("secret"): (422, "model-error"),
    VersionTaken("a has a version 2"): (409, "version-taken"),
    LastModel("a 1 is the last model"): (409, "last-model"),
    NotScalable("x"): (409, "not-scalable"),
    NoWorkers("a", "1"): (503, "no-workers"),
    NoRoom("a", 3_000_000, 2_000_000): (503, "no-memory"),
    VersionInUse("Version 1 is the default one of a."): (409, "version-in-use"),
    TooManyModels("1,000 models were added."): (409, "too-many-models"),
    TooManyChanges("16 changes wait already."): (409, "too-many-changes"),
    NoModelStore("There is no model store."): (409, "no-model-store"),
    Unauthorized("Models are managed with the token."): (401, "unauthorized"),
    ModelRefused("a is damaged"): (422, "model-refused"),
    ChangeFailed("Worker 1 ended."): (503, "change-failed"),
    ModelLoading("x"): (503, "not-ready"),
    EngineStuck(3.2): (503, "engine-stuck"),
    DeadlineExceeded("x"): (504, "deadline-exceeded"),
}


@pytest.mark.parametrize("error", ROWS, ids=lambda error: type(error).__name__)
def test_every_exception_has_its_status_and_kind(error):
    problem = fault_of(error)
    assert (problem.status, problem.kind) == ROWS[error]
    assert "secret" not in f"{problem}"
    assert ("Retry-After" in problem.headers) == (problem.status == 503)


def test_an_unsupported_image_is_not_called_damaged():
    with_advice, without = UnsupportedImage("lossless JPEG", "convert it"), UnsupportedImage("JPEG-LS")
    assert fault_of(with_advice).detail == "Lossless JPEG is not supported; convert it."
    assert fault_of(without).detail == "JPEG-LS is not supported."


@pytest.mark.parametrize(
    ("accepted", "title", "hint"),
    [
        (("JPEG",), "Not a JPEG", "Send the bytes of a JPEG file."),
        (("JPEG", "PNG", "WEBP"), "Not a JPEG, PNG or WebP", "Send the bytes of a JPEG, PNG or WebP file."),
        (("JPEG", "HEIC"), "Not a JPEG or HEIC", "Send the bytes of a JPEG or HEIC file."),
    ],
)
def test_the_formats_that_are_accepted_are_named(accepted, title, hint):
    problem = fault_of(UnsupportedFormat(None, accepted))
    assert (problem.title, problem.extras["hint"]) == (title, hint)


def test_the_table_holds_nothing_else():
    assert all(any(isinstance(error, kind) for error in ROWS) for kind in TABLE)


@pytest.mark.parametrize("path", ["/", "/classify", "/nothing/here"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
@pytest.mark.parametrize("odd", [{"Expect": "<foo>"}, {"Expect": "100-continue"}, {"Host": "\xff\xfe"}, {}])
async def test_no_route_answers_in_aiohttps_own_words(start, method, path, odd, caplog):
    """Whatever is asked of whatever address: our Server header, our request id, our problems, no traceback."""
    server = await start()
    reader, writer = await server.connect()
    headers = "".join(
        f"{name}: {value}\r\n" for name, value in {"Host": "x", "Content-Length": "0", **odd}.items()
    )
    writer.write(f"{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode("latin-1"))
    answer = (await reader.read()).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert b"Server: snapserve/" in head
    assert b"X-Request-ID: " in head
    assert status < 500
    assert b"aiohttp" not in answer and b"foo" not in answer
    if status >= 400 and method != "HEAD":
        assert json.loads(body)["status"] == status
    assert "Traceback" not in caplog.text


async def test_a_client_of_http_1_0_is_not_told_to_continue(start):
    server, png = await start(), flat(1)
    reader, writer = await server.connect()
    writer.write(b"POST /classify HTTP/1.0\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(png) + png)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.0 200")
