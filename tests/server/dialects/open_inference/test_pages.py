"""Health, metadata, configuration, statistics and the repository over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from snapserve import __version__
from tests.server.dialects.open_inference.conftest import GREY, image_request, infer


async def asked(server, path, method="GET", **options):
    """Status and JSON."""
    async with server.session.request(method, server.url + path, **options) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


async def test_the_server_tells_what_it_is(start):
    server = await start(root_path="/vision")
    for path in ("/v2", "/v2/", "/vision/v2"):
        status, document = await asked(server, path)
        assert (status, document["name"], document["version"]) == (200, "snapserve", __version__)
        assert {"binary_tensor_data", "classification"} <= set(document["extensions"])
    assert (await asked(server, "/vision/v2/nothing"))[0] == 404


async def test_health_while_the_models_load_and_while_the_server_drains(start):
    server = await start(load=False)
    assert await asked(server, "/v2/health/live") == (200, {"live": True})
    for path in ("/v2/health/ready", "/v2/models/hash/ready"):
        status, document = await asked(server, path)
        assert (status, list(document)) == (503, ["error"])
    assert (await asked(server, "/v2/repository/index", "POST"))[1] == [
        {"name": "hash", "version": "1", "state": "LOADING"}
    ]
    await server.service.load()
    for path, document in (
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/hash/ready", {"name": "hash", "ready": True}),
        ("/v2/models/hash/versions/1/ready", {"name": "hash", "ready": True}),
    ):
        assert await asked(server, path) == (200, document)
    server.service.context.leaving = True
    assert (await asked(server, "/v2/health/ready"))[0] == 503


async def test_an_image_classifier_is_described(start):
    server = await start()
    tensors = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
    }
    document = {"name": "hash", "versions": ["1"], "platform": "snapserve_image_classifier", **tensors}
    for path in ("/v2/models/hash", "/v2/models/hash/versions/1"):
        assert await asked(server, path) == (200, document)
    _, config = await asked(server, "/v2/models/hash/config")
    assert config["max_batch_size"] == 32
    assert config["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [1], "format": "FORMAT_NONE"}]
    assert config["output"] == [{"name": "scores", "data_type": "TYPE_FP32", "dims": [10]}]
    for path in ("/v2/models/no", "/v2/models/hash/versions/2/config", "/v2/models/no/stats"):
        status, document = await asked(server, path)
        assert (status, list(document)) == (404, ["error"])


@pytest.mark.slow
async def test_programs_are_described_as_far_as_they_are_known(serve):
    server = await serve("sums", "id", "joined")
    _, document = await asked(server, "/v2/models/sums")
    assert document["platform"] == "pytorch_torchscript"
    assert document["inputs"] == [
        {"name": "A", "datatype": "INT32", "shape": [-1, 4]},
        {"name": "B", "datatype": "ANY", "shape": [-1]},
    ]
    assert [each["name"] for each in document["outputs"]] == ["OUTPUT__0", "OUTPUT__1"]
    _, config = await asked(server, "/v2/models/sums/config")
    assert config["max_batch_size"] == 0, "requests are not joined"
    assert [(each["data_type"], each["dims"]) for each in config["input"]] == [
        ("TYPE_INT32", [-1, 4]),
        ("TYPE_INVALID", [-1]),
    ]
    assert (await asked(server, "/v2/models/joined/config"))[1]["max_batch_size"] == 8


async def test_statistics_count_images_and_batches(start):
    server = await start()
    await asyncio.gather(*(infer(server, "hash", image_request(*GREY)) for _ in range(3)))
    _, document = await asked(server, "/v2/models/hash/stats")
    (found,) = document["model_stats"]
    assert (found["name"], found["version"]) == ("hash", "1")
    before = 1  # of the start
    assert found["inference_count"] == 15 + before and 1 <= found["execution_count"] <= 15 + before
    times = found["inference_stats"]
    assert times["success"]["count"] == 15 and times["compute_infer"]["ns"] > 0
    parts = ("queue", "compute_input", "compute_infer")
    assert times["success"]["ns"] == sum(times[each]["ns"] for each in parts)
    assert times["fail"] == {"count": 0, "ns": 0}
    assert (await asked(server, "/v2/models/stats"))[1] == document


async def test_statistics_count_what_the_model_did_not_answer(start):
    server = await start()
    damaged, unknown = GREY[0][:40], {"inputs": [{"name": "no", "shape": [1], "datatype": "FP32", "data": [1]}]}
    assert (await infer(server, "hash", image_request(damaged)))[0] == 422
    assert (await infer(server, "hash", image_request(GREY[0])))[0] == 200
    assert (await infer(server, "hash", unknown))[0] == 400
    _, document = await asked(server, "/v2/models/hash/stats")
    times = document["model_stats"][0]["inference_stats"]
    assert (times["success"]["count"], times["fail"]["count"]) == (1, 1) and times["fail"]["ns"] > 0


async def test_the_repository_of_this_port_loads_what_is_known_and_unloads_nothing(start):
    server = await start()
    assert await asked(server, "/v2/repository/models/hash/load", "POST", json={}) == (200, {})
    status, document = await asked(server, "/v2/repository/models/hash/unload", "POST", json={})
    assert status == 403 and "--management-port" in document["error"]
    for call in ("load", "unload"):
        status, document = await asked(server, f"/v2/repository/models/no/{call}", "POST")
        assert status == 404 and ("--management-port" in document["error"]) == (call == "load")
    assert (await asked(server, "/v2/repository/index"))[0] == 405
