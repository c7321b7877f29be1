"""Inference over HTTP: images and tensors in, scores and tensors out; what is wrong is `{"error"}`."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from server.dialects.open_inference.datatypes import DTYPES
from tests.conftest import encode, flat
from tests.engines import expected
from tests.server.dialects.open_inference.conftest import GREY, binary_request, image_request, infer, refused

FP32 = {"name": "x", "shape": [1, 2], "datatype": "FP32"}


def scores_of(*images):
    """What `hash` makes of images of its own size."""
    pixels = [np.asarray(Image.open(io.BytesIO(each)).convert("RGB")) for each in images]
    return np.stack([expected(each, 10) for each in pixels])


async def test_images_as_bytes_and_as_base64_give_the_scores_of_classify(start):
    server = await start()
    body, headers = image_request(*GREY, id="id-7")
    status, answer, tail = await infer(server, "hash", (body, headers))
    assert (status, tail, answer["model_name"], answer["model_version"], answer["id"]) == (
        200,
        b"",
        "hash",
        "1",
        "id-7",
    )
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("scores", "FP32", [5, 10])
    assert np.array_equal(np.float32(output["data"]).reshape(5, 10), scores_of(*GREY))
    texts = [base64.b64encode(each).decode() for each in GREY]
    for shape, data in (([5], texts), ([5, 1], texts), ([5, 1], [[each] for each in texts])):
        given = {"name": "image", "shape": shape, "datatype": "BYTES", "data": data}
        status, again, _ = await infer(server, "hash", {"inputs": [given]})
        assert (status, again["outputs"], "id" in again) == (200, answer["outputs"], False)
    one = {"name": "image", "shape": [], "datatype": "BYTES", "data": texts[0]}
    status, again, _ = await infer(server, "hash/versions/1", {"inputs": [one]})
    assert (status, again["outputs"][0]["shape"]) == (200, [10])
    assert again["outputs"][0]["data"] == output["data"][:10]


async def test_binary_outputs_are_asked_for_in_three_ways(start):
    server = await start()
    for members in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "scores", "parameters": {"binary_data": True}}]},
        {"outputs": [{"name": "scores"}], "parameters": {"binary_data_output": True}},
    ):
        _, answer, tail = await infer(server, "hash", image_request(*GREY, **members))
        assert (
            answer["outputs"][0]["parameters"] == {"binary_data_size": 200} and "data" not in answer["outputs"][0]
        )
        assert np.array_equal(np.frombuffer(tail, "<f4").reshape(5, 10), scores_of(*GREY))
    members = {
        "outputs": [{"name": "scores", "parameters": {"binary_data": False}}],
        "parameters": {"binary_data_output": True},
    }
    _, answer, tail = await infer(server, "hash", image_request(*GREY, **members))
    assert len(answer["outputs"][0]["data"]) == 50 and not tail


async def test_classification_gives_values_indices_and_labels(start):
    server = await start()
    wanted = [{"name": "scores", "parameters": {"classification": 3, "binary_data": True}}]
    _, answer, tail = await infer(server, "hash", image_request(*GREY[:2], outputs=wanted))
    assert (answer["outputs"][0]["datatype"], answer["outputs"][0]["shape"]) == ("BYTES", [2, 3])
    texts = []
    while tail:
        size = int.from_bytes(tail[:4], "little")
        texts.append(tail[4 : 4 + size].decode())
        tail = tail[4 + size :]
    scores = scores_of(GREY[0])[0]
    best = np.argsort(-scores)[:3]
    assert texts[:3] == [f"{scores[n]!s}:{n}:label {n}" for n in best] and len(texts) == 6


async def test_pixels_are_taken_first_or_last_and_of_any_size(start):
    server = await start()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), np.uint8)
    for array in (pixels, pixels.transpose(0, 3, 1, 2), pixels[0], pixels[0].transpose(2, 0, 1)):
        given = {"name": "image", "shape": array.shape, "datatype": "UINT8", "data": array.tobytes()}
        _, answer, _ = await infer(server, "hash", binary_request([given]))
        found = np.float32(answer["outputs"][0]["data"]).reshape(-1, 10)
        assert answer["outputs"][0]["shape"] == [2, 10][4 - array.ndim :]
        assert np.array_equal(found, [expected(each, 10) for each in pixels][: len(found)])
    photo = np.random.default_rng(1).integers(0, 255, (30, 20, 3), np.uint8)
    given = {"name": "image", "shape": [1, 30, 20, 3], "datatype": "UINT8", "data": photo.tobytes()}
    _, raw, _ = await infer(server, "hash", binary_request([given]))
    _, png, _ = await infer(server, "hash", image_request(encode(photo)))
    assert raw["outputs"] == png["outputs"], "resized like the image in a file"


async def test_one_bad_image_is_named_and_hurts_no_other_request(start):
    server = await start()
    bad = image_request(GREY[0], b"GIF89a", GREY[1])
    many = [infer(server, "hash", image_request(each)) for each in GREY]
    failed, *others = await asyncio.gather(refused(server, "hash", bad, 415), *many)
    assert failed.startswith("Image 1 of the request, counted from 0: ") and "GIF" in failed
    assert [status for status, _, _ in others] == [200] * 5
    broken = {"inputs": [{"name": "image", "shape": [2], "datatype": "BYTES", "data": ["", "%"]}]}
    assert await refused(server, "hash", broken) == "Image 0 of the request, counted from 0: It is empty."
    poison = image_request(flat(77), flat(1))
    assert "log names" in await refused(server, "hash", poison, 500)


@pytest.mark.parametrize(
    ("inputs", "status", "text"),
    [
        ([], 400, "at least one input"),
        (
            [{"name": "IN", "shape": [1], "datatype": "BYTES", "data": ["a"]}],
            400,
            "'IN' is unknown; the model takes 'image'",
        ),
        ([{"name": "image", "shape": [1], "datatype": "FP32", "data": [1]}], 400, "not FP32"),
        ([{"name": "image", "shape": [0], "datatype": "BYTES", "data": []}], 400, "no image"),
        ([{"name": "image", "shape": [1, 2], "datatype": "BYTES", "data": ["", ""]}], 400, r"[n, 1]"),
        (
            [{"name": "image", "shape": [1, 2, 2, 4], "datatype": "UINT8", "data": [0] * 16}],
            400,
            "shape of pixels",
        ),
        ([{"name": "image", "shape": [1, 0, 0, 3], "datatype": "UINT8", "data": []}], 400, "shape of pixels"),
        ([{"name": "image", "shape": [0, 2, 2, 3], "datatype": "UINT8", "data": []}], 400, "no image"),
        (
            [{"name": "image", "shape": [65], "datatype": "BYTES", "data": ["a"] * 65}],
            413,
            "65 images, at most 64",
        ),
        ([{"name": "image", "shape": [1], "datatype": "BYTES"}], 400, "neither 'data' nor"),
        ([{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": []}], 400, "must be an object"),
        ([{"name": "image"}], 400, "'datatype' must be one of"),
        (["image"], 400, "an object with a 'name'"),
    ],
)
async def test_wrong_inputs_are_told(start, inputs, status, text):
    assert text in await refused(await start(), "hash", {"inputs": inputs}, status)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"outputs": [{"name": "OUT"}]}, "'OUT' is unknown; the model gives 'scores'"),
        ({"outputs": {"name": "scores"}}, "'outputs' must be a list"),
        ({"outputs": [{}]}, "an object with a 'name'"),
        ({"outputs": [{"name": "scores"}, {"name": "scores"}]}, "there twice"),
        ({"outputs": [{"name": "scores", "parameters": {"classification": -1}}]}, "'classification'"),
        ({"outputs": [{"name": "scores", "parameters": {"shared_memory_region": "r"}}]}, "shared memory"),
        ({"parameters": {"binary_data_output": 1}}, "true or false"),
        ({"id": 7}, "'id' must be a text"),
    ],
)
async def test_wrong_wishes_are_told_before_anything_runs(start, members, text):
    server = await start()
    before = len(server.engine.batches)
    assert text in await refused(server, "hash", image_request(GREY[0], **members))
    assert len(server.engine.batches) == before


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b'{"inputs": 1}', b"\xff\xfe", b"[" * 100_000, b"NaN"]
)
async def test_what_is_no_json_object_is_refused(start, text):
    await refused(await start(), "hash", (text, {}))


@pytest.mark.parametrize("name", [r"\ud800", "x" * 5000, "\u2028", r"\u0000"])
async def test_names_that_are_repeated_in_an_error(start, name):
    for value in ("1", "NaN"):
        given = f'{{"name": "{name}", "shape": [1], "datatype": "FP32", "data": [{value}]}}'
        text = f'{{"id": "{name}", "inputs": [{given}]}}'
        error = await refused(await start(), "hash", (text.encode(), {}))
        assert len(error) < 300


@pytest.mark.parametrize("size", ["0", "-1", "x", "9999999999999999999999", "100000", "1.5", "\u0663"])
async def test_a_header_length_that_lies_is_refused(start, size):
    body, _ = image_request(GREY[0])
    error = await refused(await start(), "hash", (body, {"Inference-Header-Content-Length": size}))
    assert "Inference-Header-Content-Length must be a number" in error


@pytest.mark.parametrize("size", [-1, 10**9, 10**30, 1.5, "8", True])
async def test_a_binary_size_that_lies_is_refused(start, size):
    given = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [given]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    assert "binary_data_size" in await refused(await start(), "hash", (head + bytes(8), headers))


async def test_bytes_that_no_input_has_are_refused(start):
    body, headers = image_request(GREY[0])
    assert "belong to no input" in await refused(await start(), "hash", (body + b"x", headers))


async def test_far_more_lists_than_anybody_has_are_refused_before_they_are_made(start):
    text = b'{"inputs": [' + b"[]," * 100_001 + b"[]]}"
    assert "at most 100,000" in await refused(await start(), "hash", (text, {}), 413)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
async def test_bodies_and_responses_may_be_compressed(start, encoding):
    server = await start()
    body, headers = image_request(*GREY * 4)
    raw = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw deflate": raw.compress(body) + raw.flush(),
    }[encoding]
    name = encoding.split()[-1]
    headers |= {"Content-Encoding": name, "Accept-Encoding": name}
    async with server.post(packed, "/v2/models/hash/infer", headers=headers) as response:
        assert response.headers["Content-Encoding"] == name
        assert len((await response.json())["outputs"][0]["data"]) == 200
    _, plain, _ = await infer(server, "hash", (packed, headers), **{"Accept-Encoding": "gzip;q=0, br"})
    assert len(plain["outputs"][0]["data"]) == 200
    assert server.service.context.bodies.memory.used == 0


async def test_bombs_and_broken_compression_are_refused(start):
    server = await start(max_body_mb=1.0)
    bomb, headers = gzip.compress(bytes(50_000_000)), {"Content-Encoding": "gzip"}
    assert len(bomb) < 100_000
    assert (
        "at most" in (text := await refused(server, "hash", (bomb, headers), 413)) or "more than 1,000,000" in text
    )
    for body in (gzip.compress(b"{}")[:-4], b"no gzip", gzip.compress(b"{}") + b"x", b""):
        await refused(server, "hash", (body, headers))
    for other in ("br", "gzip, gzip"):
        await refused(server, "hash", (b"", {"Content-Encoding": other}), 415)
    assert server.service.context.bodies.memory.used == 0
    async with server.post(gzip.compress(GREY[0]), headers=headers) as response:
        assert response.status == 415, "not for /classify"


async def test_errors_of_the_server_are_told_in_the_protocols_words(start):
    server = await start(max_body_mb=0.001)
    assert "1,000" in await refused(server, "hash", (bytes(2000), {}), 413)
    assert "No model of that name" in await refused(server, "other", {}, 404)
    assert "no such version" in await refused(server, "hash/versions/2", {}, 404)
    headers = {"X-Request-Timeout-Ms": "0.0001"}
    await refused(server, "hash", image_request(GREY[0]), 504, **headers)
    for path in ("/v2/models/hash/infer", "/v2/nothing", "/v2/models/a/b/infer", "/v2/logging"):
        async with server.session.get(server.url + path) as response:
            assert list(await response.json()) == ["error"] and response.status in (404, 405)
    async with server.session.get(f"{server.url}/v2x") as response:
        assert "error" not in await response.json()


@pytest.mark.slow
async def test_tensors_reach_a_program_by_name(serve):
    server = await serve("sums")
    a, b = np.arange(8, dtype=np.int32).reshape(2, 4), np.ones((2, 4), np.int32)
    given = [
        {"name": "B", "shape": [2, 4], "datatype": "INT32", "data": b.tolist()},
        {"name": "A", "shape": [2, 4], "datatype": "INT32", "data": a.tobytes()},
    ]
    wanted = [{"name": "OUTPUT__1", "parameters": {"binary_data": True}}, {"name": "OUTPUT__0"}]
    status, answer, tail = await infer(server, "sums", binary_request(given, outputs=wanted))
    assert status == 200, answer
    assert [each["name"] for each in answer["outputs"]] == ["OUTPUT__1", "OUTPUT__0"]
    assert np.array_equal(np.frombuffer(tail, "<i4").reshape(2, 4), a - b)
    assert answer["outputs"][1]["data"] == (a + b).reshape(-1).tolist()
    _, _, tail = await infer(server, "sums", binary_request(given, parameters={"binary_data_output": True}))
    assert np.array_equal(np.frombuffer(tail, "<i4").reshape(2, 2, 4), [a + b, a - b]), "one behind the other"
    one = {"name": "A", "shape": [2, 4], "datatype": "INT32", "data": a.tolist()}
    for inputs, text in [
        ([one], "'B' is missing"),
        ([one, one], "there twice"),
        ([{**one, "datatype": "INT64"}, {**one, "name": "B"}], "takes INT32, not INT64"),
        ([{**one, "shape": [1, 8], "data": [0] * 8}, {**one, "name": "B"}], "takes the shape [-1, 4], not [1, 8]"),
        ([{**one, "shape": [8], "data": [0] * 8}, {**one, "name": "B"}], "takes the shape [-1, 4], not [8]"),
    ]:
        assert text in await refused(server, "sums", {"inputs": inputs})


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DTYPES])
async def test_every_datatype_goes_through_a_program(serve, name):
    from tests.server.dialects.open_inference.test_tensors import bytes_of

    server = await serve("id")
    given = {"name": "x", "shape": [3, 1], "datatype": name, "data": bytes_of(name)}
    request = binary_request([given], parameters={"binary_data_output": True})
    status, answer, tail = await infer(server, "id", request)
    assert (status, tail) == (200, bytes_of(name)), answer
    assert (answer["outputs"][0]["datatype"], answer["outputs"][0]["shape"]) == (name, [3, 1])


@pytest.mark.slow
async def test_other_values_than_tensors(serve):
    server = await serve("repeated", "dict", "bf16", "complex", "raises", "m")
    given = [
        {"name": "s", "shape": [1], "datatype": "BYTES", "data": ["ab"]},
        {"name": "n", "shape": [1], "datatype": "INT64", "data": [2]},
    ]
    _, answer, _ = await infer(server, "repeated", {"inputs": given})
    assert answer["outputs"] == [{"name": "OUTPUT__0", "datatype": "BYTES", "shape": [1], "data": ["ab2"]}]
    given[0]["datatype"], given[0]["data"] = "FP32", [1.0]
    assert "takes BYTES, not FP32" in await refused(server, "repeated", {"inputs": given})
    ones = {"inputs": [{**FP32, "data": [1.0, float("nan")]}]}
    _, answer, _ = await infer(server, "dict", ones)
    assert {each["name"] for each in answer["outputs"]} == {"y", "z"} and np.isnan(answer["outputs"][0]["data"][1])
    assert "BF16 is sent as binary data" in await refused(server, "bf16", ones)
    assert "complex64" in await refused(server, "complex", ones, 500)
    assert "positive numbers are not liked" in await refused(server, "raises", ones, 500)
    text = {"inputs": [{"name": "IN", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    assert "no text" in await refused(server, "m", text, 422)
    _, answer, _ = await infer(server, "m", {"inputs": [{**FP32, "name": "IN", "data": [1, 2]}]})
    assert [(each["name"], each["data"]) for each in answer["outputs"]] == [
        ("OUT", [1.0, 2.0]),
        ("TXT", ["hello"]),
    ]


@pytest.mark.slow
async def test_requests_of_several_rows_share_a_batch(serve):
    server = await serve("joined")
    deployment = server.service.context.store.find("joined")
    requests = [{"inputs": [{**FP32, "shape": [n, 2], "data": [float(n)] * 2 * n}]} for n in (1, 2, 3)]
    answers = await asyncio.gather(*(infer(server, "joined", each) for each in requests))
    assert [answer["outputs"][0]["shape"] for _, answer, _ in answers] == [[1, 2], [2, 2], [3, 2]]
    assert [answer["outputs"][0]["data"][0] for _, answer, _ in answers] == [1.0, 2.0, 3.0]
    assert deployment.accepted == 0


@pytest.mark.slow
async def test_large_tensors_are_read_and_written_away_from_the_event_loop(serve):
    server = await serve("id")
    values = [float(n) for n in range(200_000)]
    given = {**FP32, "shape": [200_000], "data": values}
    status, answer, _ = await infer(server, "id", {"inputs": [given]})
    assert (status, answer["outputs"][0]["data"]) == (200, values)
