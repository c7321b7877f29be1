"""The real tritonclient, and every request that was recorded from it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from yarl import URL

from benchmark.harness.server import ROOT, ServerProcess
from benchmark.peers.environment import Environment, PeerMissing
from server.config import Config, ServerConfig
from server.operations.rpc_port import reserve_rpc_port
from tests.conftest import flat, lacking
from tests.engines import expected
from tests.server.conftest import certificate, hash_bundle, start  # noqa: F401
from tests.server.dialects.open_inference.conftest import programs_folder, serve  # noqa: F401

SHARED = Path(os.environ.get("SNAPSERVE_SHARED", ROOT.parent / "shared"))
RECORDED = SHARED / "compat" / "oip-tritonclient-wire.jsonl"
REQUESTS = 2000
# What one model cannot take of all that was recorded for a model `m` of the recorder.
REFUSED = {
    "infer BYTES binary": 400,  # another input
    "infer BYTES json (text)": 400,
    "infer two inputs, one binary one json": 400,
    "infer model name with slash and space": 404,
    "unload_model": 403,
    "get_log_settings": 404,
    "get_trace_settings": 404,
}


@pytest.fixture(scope="module")
def python():
    """The interpreter that has tritonclient, in an environment of its own: it requires other versions than we."""
    environment = Environment(
        "tritonclient", Path(__file__).with_name("clients.toml"), ROOT / ".cache" / "clients"
    )
    try:
        environment.install()
    except PeerMissing as error:
        lacking(str(error))
    return environment.python


async def run(*words):
    """What a client printed, as JSON."""
    process = await asyncio.create_subprocess_exec(
        *map(str, words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


async def test_every_call_of_the_client_over_http(serve, python, tmp_path):  # noqa: F811
    server = await serve("m", "sums")
    image = tmp_path / "image.png"
    image.write_bytes(flat(20))
    client = Path(__file__).with_name("triton_http.py")
    found = await run(python, client, "{}:{}".format(*server.address), image, REQUESTS)
    check_about(found["about"])
    assert found["about"]["server"]["name"] == "snapserve"
    for call, status in (("unload", "403"), ("missing", "404"), ("logging", "404"), ("trace", "404")):
        assert found["about"][call][0] == status, call
    check_answers(found)
    assert found["tensors"]["bad image"][0] == "415"


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
async def test_every_call_of_the_client_over_grpc(serve, python, tmp_path, certificate, is_tls):  # noqa: F811
    files = certificate if is_tls else {}
    config, held = reserve_rpc_port(Config(server=ServerConfig(grpc_port="0")))
    with held:
        server = await serve("m", "sums", grpc_port=config.server.grpc_port, **files)
        image = tmp_path / "image.png"
        image.write_bytes(flat(20))
        client = Path(__file__).with_name("triton_grpc.py")
        trusted = [files["certificate_file"]] if is_tls else []
        found = await run(python, client, f"127.0.0.1:{config.server.grpc_port}", image, REQUESTS, *trusted)
    check_about(found["about"])
    for call, status in (
        ("unload", "PERMISSION_DENIED"),
        ("missing", "NOT_FOUND"),
        ("logging", "UNIMPLEMENTED"),
        ("trace", "UNIMPLEMENTED"),
    ):
        assert found["about"][call][0] == f"StatusCode.{status}", call
    check_answers(found)
    assert found["tensors"]["bad image"][0] == "StatusCode.INVALID_ARGUMENT"
    assert server.service.context.bodies.memory.used == server.service.context.in_flight == 0


async def test_models_are_loaded_and_unloaded_on_the_port_of_management(python, programs_folder):  # noqa: F811
    store = "--model-store", str(programs_folder)
    options = ("--management-port", "0", "--grpc-port", "0", *store, "--workers", "2")
    with ServerProcess("--model", "models/demo", *options) as server:
        rpc = server.line("Open Inference over gRPC on ").rpartition(" ")[2]
        line = server.line("models are managed on ")
        managing, token = re.fullmatch(r".* on http://(\S+), token (\S+)", line).groups()
        client = Path(__file__).with_name("triton_repository.py")
        found = await run(python, client, server.url.removeprefix("http://"), managing, rpc, token, "id")
    (programs_folder / "models.json").unlink()
    assert found == {
        "http": {
            "without token": "401",
            "before": False,
            "index": ["digits", "id"],
            "answers": [[[1.0, 2.0]]] * 8,
            "after": False,
        },
        "grpc": {
            "without token": "StatusCode.NOT_FOUND",  # there is none yet, and one that is there is loaded
            "another token": "StatusCode.UNAUTHENTICATED",
            "no such model": "StatusCode.NOT_FOUND",
            "before": False,
            "index": ["digits", "id"],
            "answers": [[[1.0, 2.0]]] * 8,
            "unloaded without token": "StatusCode.PERMISSION_DENIED",
            "after": False,
        },
    }


def check_about(about):
    """What the client was told of the server, over HTTP and gRPC alike."""
    assert about["live"] and about["ready"] and about["model_ready"] == [True, True, False]
    assert [(each["name"], each["datatype"]) for each in about["model"]["outputs"]] == [
        ("OUT", "FP32"),
        ("TXT", "BYTES"),
    ]
    assert about["version"]["inputs"][0]["name"] == "image"
    assert about["config"]["max_batch_size"] == 32
    assert {each["name"]: each["state"] for each in about["index"]} == dict.fromkeys(
        ("hash", "m", "sums"), "READY"
    )
    assert about["statistics"]["model_stats"][0]["name"] == "hash" and about["all"] == 3


def check_answers(found):
    """Images and tensors, over HTTP and gRPC alike."""
    scores = expected(np.full((8, 8, 3), 20, np.uint8), 10)
    images = found["images"]
    assert images.pop("id") == "id-7"
    best = [f"{scores[n]!s}:{n}:label {n}" for n in np.argsort(-scores)[:3]]
    assert images.pop("classes") == [best] and images.pop("classes in json", [best]) == [best]
    for name, values in images.items():
        assert np.array_equal(np.float32(values), [scores]), name
    tensors = found["tensors"]
    assert tensors["sum"] == [[1, 2, 3, 4], [5, 6, 7, 8]] and tensors["difference"] == [
        [-1, 0, 1, 2],
        [3, 4, 5, 6],
    ]
    assert tensors["text"] == ["[nan, 1.0]", "hello"]
    assert "takes the shape" in tensors["wrong"][1]
    assert "no supported image" in tensors["bad image"][1]
    assert found["good"] == REQUESTS


@pytest.mark.skipif(not RECORDED.is_file(), reason=f"no {RECORDED.name} in the folder of SNAPSERVE_SHARED")
async def test_every_recorded_request_is_answered(serve):  # noqa: F811
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    assert len(lines) == 43
    server = await serve("m")
    for line in lines:
        request = line["request"]
        headers = {name: text for name, text in request["headers"].items() if name != "Content-Length"}
        body = request["json"].encode() + bytes.fromhex(request["binary_hex"])
        if encoding := headers.get("Content-Encoding"):
            body = packed(encoding, lines)
        options = {"data": body, "headers": headers, "skip_auto_headers": ["Content-Type", "Accept-Encoding"]}
        url = URL(server.url + request["path"], encoded=True)
        async with server.session.request(request["method"], url, **options) as response:
            text = await response.read()
            assert response.status == REFUSED.get(line["name"], 200), (line["name"], text)
            assert response.headers["Content-Type"] in ("application/json", "application/octet-stream")
            size = int(response.headers.get("Inference-Header-Content-Length", len(text)))
            document = json.loads(text[:size])
            if line["name"].startswith("infer ") and response.status == 200:
                check_sizes(document, request["json"], len(text) - size)


def packed(encoding, lines):
    """The body of a recorded request that was compressed: that of the first inference, as its length says."""
    plain = next(each["request"] for each in lines if each["name"] == "infer FP32 binary, no outputs listed")
    body = plain["json"].encode() + bytes.fromhex(plain["binary_hex"])
    return gzip.compress(body) if encoding == "gzip" else zlib.compress(body)


def check_sizes(document, asked, behind):
    """The bytes of the outputs, where they were wanted, are those behind the JSON."""
    sizes = [each["parameters"]["binary_data_size"] for each in document["outputs"] if "parameters" in each]
    assert sum(sizes) == behind
    assert bool(sizes) == ('"binary_data_output":true' in asked or '"binary_data":true' in asked or "<" in asked)
