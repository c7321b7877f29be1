"""The inference port: where requests go, what a handler gets of them, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json

import aiohttp
import pytest

from runtime.errors import InvalidInput
from runtime.inputs import JsonText
from server.dialects.torchserve.fields import read_fields
from server.dialects.torchserve.image import image_of, is_for_handler
from server.http.faults import BodyTooLarge
from tests.conftest import flat
from tests.server.dialects.torchserve.conftest import error

NOT_FOUND = error(
    404, "ResourceNotFoundException", "Requested resource is not found, please refer to API document."
)
NOT_ALLOWED = error(
    405, "MethodNotAllowedException", "Requested method is not allowed, please refer to API document."
)
HEALTHY = (200, '{\n  "status": "Healthy"\n}\n')


ADDRESSES = [
    ("GET", "/ping", HEALTHY),
    ("PUT", "/ping/x/y", HEALTHY),
    ("HEAD", "/ping", (200, "")),
    ("GET", "/", NOT_ALLOWED),
    ("POST", "//predictions/probe", NOT_FOUND),
    ("OPTIONS", "/nothing", NOT_FOUND),
    ("POST", "/predictions/", NOT_FOUND),
    ("GET", "/models", NOT_FOUND),
    ("POST", "/models/probe/other", NOT_FOUND),
    ("POST", "/v1/models/probe:other", NOT_FOUND),
    ("GET", "/v1/models/probe", NOT_FOUND),
    ("GET", "/metrics", NOT_FOUND),
    ("GET", "/v2", NOT_FOUND),
    ("POST", "/predictions/none/1.0", error(404, "ModelNotFoundException", "Model not found: none")),
    (
        "POST",
        "/explanations/probe/9",
        error(404, "ModelVersionNotFoundException", "Model version: 9 does not exist for model: probe"),
    ),
    ("POST", "/invocations", error(400, "BadRequestException", "Parameter model_name is required.")),
    ("POST", "/wfpredict/w", error(404, "WorkflowNotFoundException", "Workflow not found: w")),
]


async def test_addresses_and_methods(server):
    for method, path, expected in ADDRESSES:
        assert await server.answer(path, method=method) == expected, (method, path)


SPELLINGS = [
    ("/predictions/probe", "predict", ""),
    ("/predictions/pro%62e%2F1.0/a/b/", "predict", "a/b"),
    ("/explanations/probe/1.0", "explain", ""),
    ("/v1/models/probe:predict", "predict", ""),
    ("/v1/models/probe:explain", "explain", ""),
    ("/v2/models/probe/infer", "predict", ""),
    ("/v2/models/probe/explain", "explain", ""),
    ("/models/probe/invoke", "predict", None),
    ("/probe/predict", "predict", None),
    ("/probe/1.0/predict", "predict", None),
    ("/invocations?model_name=probe", "predict", None),
]


async def test_every_spelling_reaches_the_handler_with_every_method(server):
    for path, action, rest in SPELLINGS:
        for method in ("POST", "GET", "DELETE", "PATCH"):
            seen = await server.echo(path, method=method)
            assert seen["action"] == action, path
            assert seen["headers"].get("url_path") == rest, path
            assert seen["headers"].get("explain") == (None if rest is None else str(action == "explain")), path


JSON, TEXT, BYTES = "application/json", "text/plain", "application/octet-stream"
FORM, URLENCODED = "multipart/form-data; boundary=B", "application/x-www-form-urlencoded"


def form(*parts):
    return b"".join(b"--B\r\n%s\r\n\r\n%s\r\n" % part for part in parts) + b"--B--\r\n"


NAMED = b'Content-Disposition: form-data; name="%s"'


BODIES = [
    (None, b"echo", {"body": ["bytes", "echo"]}, {"body": ""}),
    (None, b"", {"body": ["bytes", ""]}, {"body": ""}),
    (JSON + "; charset=utf-8", b'{"x": [1]}', {"body": {"x": [1]}}, {"body": JSON}),
    (JSON, b"18446744073709551617", {"body": 2**64 + 1}, {"body": JSON}),
    (JSON, b"{no", {"body": ["bytes", "{no"]}, {"body": JSON}),
    (JSON, b"[" * 100_000, {"body": ["bytes", "[" * 100_000]}, {"body": JSON}),
    ("text/csv", b"echo", {"body": "echo"}, {"body": "text/csv"}),
    (TEXT, b"\xff\xfe", {"body": ["bytes", "\xff\xfe"]}, {"body": TEXT}),
    ("multipart/form-data", b"x", {"body": ["bytes", "x"]}, {"body": "multipart/form-data"}),
    (URLENCODED, b"a=1&b=two%20w+s&a=3", {"a": ["bytes", "3"], "b": ["bytes", "two w s"]}, {"a": "", "b": ""}),
    (URLENCODED, b"\x00\x01", {"body": ["bytes", "\x00\x01"]}, {"body": URLENCODED}),
    (
        FORM,
        form(
            (NAMED % b"data" + b'; filename="x"', b"\x01"),
            (NAMED % b"note", b"hello"),
            (NAMED % b"j" + b'; filename="j"\r\nContent-Type: application/json', b'{"k": 1}'),
            (NAMED % b"note", b"last"),
        ),
        {"data": ["bytes", "\x01"], "note": ["bytes", "last"], "j": {"k": 1}},
        {"data": BYTES, "note": "", "j": JSON},
    ),
]


async def test_a_body_becomes_values_by_its_type(server):
    for kind, body, values, types in BODIES:
        headers = {"Content-Type": kind} if kind else {}
        seen = await server.echo(data=body, headers=headers, skip_auto_headers=["Content-Type"])
        assert seen["values"] == values, kind
        told = {name: {"content-type": each} for name, each in types.items()}
        assert {name: seen["headers"][name] for name in types} == told, kind


async def test_without_decoding_json_stays_bytes(serve):
    server = await serve(decode_input_request=False)
    seen = await server.echo(data=b'{"a": 1}', headers={"Content-Type": JSON})
    assert seen["values"] == {"body": ["bytes", '{"a": 1}']}


async def test_parameters_of_the_query_are_fields_where_they_are_in_torchserve(server):
    assert (await server.echo("/predictions/probe?a=1"))["values"] == {"body": ["bytes", ""]}
    seen = await server.echo("/models/probe/invoke?a=1&a=2")
    assert seen["values"] == {"a": ["bytes", "2"], "body": ["bytes", ""]}


async def test_a_handler_sees_headers_as_they_were_sent_and_the_id_of_the_response(server):
    headers = {"X-Custom": "Mixed Case", "x-request-id": "my-1", "Authorization": "Bearer K"}
    async with server.ask("/predictions/probe", headers=headers) as response:
        seen = (await response.json(content_type=None))["headers"]
    assert headers.items() <= seen.items()
    (fields,) = server.probe.seen
    assert fields.request_id == response.headers["X-Request-ID"]
    assert (await server.echo(method="GET"))["headers"]["content-length"] == "0"


async def test_chunked_bodies_and_expect_continue(server):
    async def chunks():
        yield b"ec"
        yield b"ho"

    assert (await server.echo(data=chunks(), headers={"Content-Type": TEXT}))["values"] == {"body": "echo"}
    assert (await server.echo(data="echo", expect100=True))["values"] == {"body": "echo"}


async def test_a_response_that_is_too_long_fails_alone(serve):
    server = await serve(max_response_size=20)
    server.probe.gate.clear()
    first = asyncio.ensure_future(server.answer("/predictions/probe", "wait"))
    while not server.probe.running.is_set():
        await asyncio.sleep(0.001)
    long, short = "length:21", "length:20"  # they share a batch
    others = asyncio.gather(*(server.answer("/predictions/probe", each) for each in (long, short)))
    deployment = server.running.service.context.store.find("probe")
    while deployment.batcher.queued < 2:
        await asyncio.sleep(0.001)
    server.probe.gate.set()
    message = "The response has 21 bytes, at most 20 are allowed: max_response_size."
    assert await first == (200, "waited")
    assert await others == [error(500, "InternalServerException", message), (200, "x" * 20)]


async def test_a_part_that_is_too_long_ends_its_response_alone(serve):
    server = await serve(max_response_size=20)
    assert (await server.answer("/predictions/probe", "stream:4"))[0] == 500, "nothing was sent yet"
    with pytest.raises(aiohttp.ClientPayloadError):
        await server.answer("/predictions/probe", "grow:21")
    assert await server.answer("/predictions/probe", "grow:20") == (201, "part" + "x" * 20 + "last")


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(serve):
    server = await serve(max_request_size=10)
    assert (await server.answer("/predictions/probe", b"x" * 10))[0] == 200
    for expect in (True, False):
        status, text = await server.answer("/predictions/probe", b"x" * 11, expect100=expect)
        assert status == json.loads(text)["code"] == 413
    assert server.probe.seen[1:] == []


ERRORS = [
    ("raise:raised", 503, "Prediction failed"),
    ("raise:resources", 507, "Out of resources"),
    ("raise:no-list", 503, "Invalid model predict output"),
    ("raise:length", 503, "number of batch response mismatched"),
    ("raise:type", 503, "Unsupported model output data type."),
    ("raise:refused:599:mine", 599, "mine"),
    ("raise:refused:99:mine", 500, "mine"),
    ("die", 500, "Worker died."),
]


async def test_errors_of_a_handler(server):
    for asked, status, message in ERRORS:
        expected = error(status, "InternalServerException", message)
        assert await server.answer("/predictions/probe", asked) == expected, asked
    assert (await server.answer("/ping", method="GET")) == HEALTHY


@pytest.mark.parametrize("count", [1000, 1001])
def test_a_form_has_a_bounded_number_of_fields(count):
    body = bytearray(b"&".join(b"a%d=1" % number for number in range(count)))
    with pytest.raises(BodyTooLarge) if count > 1000 else contextlib.nullcontext():
        assert len(read_fields(body, "application/x-www-form-urlencoded", True).values) == count


async def test_long_json_is_not_parsed_here(server):
    """It would hold the event loop: 6 MB of it for seconds."""
    text = json.dumps(["x" * 200_000])
    seen = await server.echo(data=text.encode(), headers={"Content-Type": JSON})
    assert seen["values"]["body"] == ["JsonText", text]
    form = aiohttp.FormData()
    form.add_field("a", text, content_type=JSON)
    form.add_field("b", "[1]", content_type=JSON)
    assert (await server.echo(data=form))["values"] == {"a": ["JsonText", text], "b": [1]}


async def test_of_long_json_only_a_text_can_be_an_image():
    image = base64.b64encode(bytes(150_000)).decode()
    space = " " * 200_000
    assert image_of({"data": JsonText(json.dumps(image).encode())}).data == bytes(150_000)
    assert bytes(image_of({"body": JsonText(space.encode())}).data) == space.encode(), "broken JSON is bytes"
    for text in ("[1]", '{"a": 1}'):
        given = {"body": JsonText(f" {text}".encode())}
        assert is_for_handler(given) == (text == "[1]")
        with pytest.raises(InvalidInput):
            image_of(given)


async def test_a_reason_ends_no_line_and_moves_no_cursor(server):
    for reason in ("a\r\nb", "a\x00b", "a\x1b[2Jb", "a\x7fb"):
        async with server.ask("/predictions/probe", f"status:200:{reason}") as response:
            assert response.status == 200 and response.reason.isprintable() and response.reason.startswith("a ")


async def test_a_reply_keeps_its_status_reason_headers_and_type(server):
    async with server.ask("/predictions/probe", "headers") as response:
        assert (response.status, response.reason) == (200, "")
        assert response.headers["Content-Type"] == "text/csv"
        assert response.headers["X-A"] == "1"
        assert response.headers["Content-Length"] == "3"
        assert not {"X-B", "X-C", "X D"} & set(response.headers), "what would break the message is left out"
    for code in (204, 299, 418, 500, 700):
        async with server.ask("/predictions/probe", f"status:{code}:I am") as response:
            assert (response.status, response.reason) == (code, "I am")
            assert "Content-Type" not in response.headers
            assert await response.read() == (b"" if code == 204 else b"mine")
    async with server.ask("/predictions/probe", "status:42") as response:
        assert response.status == 500, "no status of HTTP"


async def test_all_workers_busy_is_told_with_the_name_and_the_version(serve):
    server = await serve(queue_limit=1)
    server.probe.gate.clear()
    waiting = asyncio.ensure_future(server.answer("/predictions/probe", "wait"))
    await asyncio.to_thread(server.probe.running.wait, 30)
    for path, version in (("/predictions/probe", ""), ("/predictions/probe/1.0", ' Version "1.0"')):
        async with server.ask(path, "echo") as response:
            found = await response.json()
            assert (response.status, found["type"]) == (503, "ServiceUnavailableException")
            assert found["message"].startswith(
                f'Model "probe"{version} has no worker to serve inference request. Please use scale workers API'
            )
            assert int(response.headers["Retry-After"]) >= 1
    server.probe.gate.set()
    assert await waiting == (200, "waited")


async def test_too_late_is_504_and_the_next_is_answered(server):
    server.probe.gate.clear()
    limit = {"X-Request-Timeout-Ms": "100"}
    status, text = await server.answer("/predictions/probe", "wait", headers=limit)
    assert (status, json.loads(text)["type"]) == (504, "RequestTimeoutException")
    server.probe.gate.set()
    assert (await server.answer("/predictions/probe", "wait")) == (200, "waited")


async def test_every_response_has_torchserve_s_headers_and_cors_texts_as_given(serve):
    texts = {"origin": "*", "methods": "GET, POST", "headers": "X-A"}
    server = await serve(**{f"cors_allowed_{name}": text for name, text in texts.items()})
    for path, method in (("/ping", "GET"), ("/nothing", "GET"), ("/predictions/probe", "OPTIONS")):
        async with server.ask(path, method=method) as response:
            assert response.headers["Pragma"] == "no-cache"
            assert response.headers["Cache-Control"] == "no-cache; no-store, must-revalidate, private"
            assert response.headers["Expires"] == "Thu, 01 Jan 1970 00:00:00 UTC"
            assert response.headers["X-Request-ID"]
            for name, text in texts.items():
                assert response.headers[f"Access-Control-Allow-{name}"] == text


async def test_what_is_no_http_is_refused_in_torchserve_s_words(server):
    host, port = server.inference.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"BAD\r\n\r\n")
    answer = await reader.read()
    writer.close()
    body = error(400, "BadRequestException", "Invalid HTTP message.")[1]
    assert b" 400 Bad Request\r\n" in answer and answer.endswith(body.encode())


async def test_descriptions_name_every_path_and_operation(server):
    async def operations(path, method, url=server.inference):
        async with server.session.request(method, url + path) as response:
            document = await response.json()
        found = {
            (each, one): of["operationId"] for each, by in document["paths"].items() for one, of in by.items()
        }
        return document["info"]["title"], found

    title, found = await operations("/", "OPTIONS")
    assert title == "TorchServe APIs"
    assert found == (await operations("/api-description", "POST"))[1]
    assert found["/", "options"] == "apiDescription"
    assert found["/predictions/{model_name}", "post"] == "predictions"
    assert found["/predictions/{model_name}/{model_version}", "post"] == "version_predictions"
    assert found["/v2/models/{model_name}/infer", "post"] == "predictions"
    assert found["/ping", "get"] == "ping" and found["/metrics", "get"] == "metrics"
    title, found = await operations("/predictions/probe", "OPTIONS")
    assert title == "RESTful API for: probe"
    assert found["/prediction/probe", "post"] == "probe"
    assert {path for path, _ in (await operations("/", "OPTIONS", server.metrics))[1]} == {"/", "/metrics"}


async def test_the_open_inference_protocol_of_torchserve_is_there_when_asked_for(serve):
    server = await serve(ts_open_inference_protocol=True)
    assert (await server.ask("/v2", method="GET").__aenter__()).status == 200
    assert await server.answer("/v2/health/ready") == (200, '{\n  "ready": true\n}\n')
    status, text = await server.answer("/v2/models/m/versions/1/infer")
    assert (status, json.loads(text)) == (501, {"error": "Model versioning is not yet supported."})


async def test_ping_is_unhealthy_while_models_load_and_when_the_server_stops(serve, start):
    loading = await start(
        load=False,
        torchserve=True,
        inference_address="127.0.0.1:0",
        metrics_address="127.0.0.1:0",
        disable_token_auth=True,
    )
    unhealthy = (500, '{\n  "status": "Unhealthy"\n}\n')
    url = loading.service.context.config.torchserve.inference.url
    async with loading.session.get(f"{url}/ping") as response:
        assert (response.status, await response.text()) == unhealthy
    server = await serve()
    server.running.service.context.leaving = True
    assert await server.answer("/ping") == unhealthy


async def test_an_image_in_every_form_gives_the_five_best_labels(server, noise):
    image = noise(1)
    text = base64.b64encode(image).decode()
    forms = [
        (image, {"Content-Type": BYTES}),
        (form((NAMED % b"data", b"x"), (NAMED % b"data" + b'; filename="x"', image)), {"Content-Type": FORM}),
        (form((NAMED % b"body" + b'; filename="x"', image)), {"Content-Type": FORM}),
        (text, {}),
        (json.dumps(text).encode(), {"Content-Type": JSON}),
        (image, {"Content-Type": URLENCODED}),
    ]
    async with server.running.post(image) as response:
        best = (await response.json())["predictions"]
    expected = json.dumps({each["label"]: each["score"] for each in best}, indent=2)
    for data, headers in forms:
        async with server.ask("/predictions/hash", data, headers=headers) as response:
            assert (response.status, response.reason) == (200, ""), headers
            assert "Content-Type" not in response.headers
            assert await response.text() == expected


NO_IMAGES = [
    (b"no image", {"Content-Type": BYTES}, 415),
    (b"", {}, 400),
    (flat(1)[:45], {"Content-Type": BYTES}, 422),
    (form((NAMED % b"image" + b'; filename="x"', flat(1))), {"Content-Type": FORM}, 400),
    (form((NAMED % b"data", flat(1)))[:-12], {"Content-Type": FORM}, 400),
    ("no base64!", {}, 400),
    (b"[1, 2]", {"Content-Type": JSON}, 422),
]


async def test_what_is_no_image_is_the_client_s_fault(server):
    for data, headers, status in NO_IMAGES:
        found, text = await server.answer("/predictions/hash", data, headers=headers)
        told = json.loads(text)
        assert (found, told["code"], told["type"]) == (status, status, "BadRequestException"), text
    assert (await server.answer("/predictions/hash", flat(1)))[0] == 200


async def test_a_classifier_without_a_handler_explains_nothing(server):
    status, text = await server.answer("/explanations/hash", flat(1))
    assert (status, json.loads(text)["code"]) == (501, 501)


async def test_a_client_that_leaves_frees_its_place(serve):
    server = await serve(queue_limit=1)
    server.probe.gate.clear()
    with pytest.raises(asyncio.TimeoutError):
        await server.answer("/predictions/probe", "wait", timeout=aiohttp.ClientTimeout(0.2))
    deployment = server.running.service.context.store.find("probe")
    while deployment.accepted:
        await asyncio.sleep(0.001)
    server.probe.gate.set()
    assert (await server.answer("/predictions/probe", "wait")) == (200, "waited")
