"""Drives a server with the real `tritonclient.http`; run by its own interpreter. Prints what it found as JSON.

Usage: triton_http.py HOST:PORT IMAGE REQUESTS
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

CONCURRENCY = 8


def tensor(kind, name, array, datatype, **options):
    given = kind.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, **options)
    return given


def error_of(call):
    """The error of a call that has to fail."""
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def about(client):
    """Every call that asks no model."""
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": [client.is_model_ready(*each) for each in (("hash",), ("hash", "1"), ("no",))],
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("m"),
        "version": client.get_model_metadata("hash", "1"),
        "config": client.get_model_config("hash"),
        "index": client.get_model_repository_index(),
        "statistics": client.get_inference_statistics("hash"),
        "all": len(client.get_inference_statistics()["model_stats"]),
        "load": client.load_model("m"),
        "unload": error_of(lambda: client.unload_model("m")),
        "missing": error_of(lambda: client.get_model_metadata("no")),
        "logging": error_of(client.get_log_settings),
        "trace": error_of(lambda: client.get_trace_settings("m")),
    }


def images(client, data):
    """One picture in every way that the client can send and ask."""
    encoded = np.array([data], object)
    given = [tensor(triton, "image", encoded, "BYTES")]
    found = {}
    for name, options in {
        "plain": {},
        "json out": {"outputs": [triton.InferRequestedOutput("scores", binary_data=False)]},
        "binary out": {"outputs": [triton.InferRequestedOutput("scores")]},
        "gzip": {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"},
        "deflate": {"request_compression_algorithm": "deflate", "response_compression_algorithm": "deflate"},
        "version": {"model_version": "1", "request_id": "id-7"},
        "parameters": {"parameters": {"top_k": 3}, "priority": 1, "timeout": 1000},
        "sequence": {"sequence_id": 5, "sequence_start": True, "sequence_end": False},
        "query": {"query_params": {"q": 1}, "headers": {"Authorization": "Bearer t"}},
    }.items():
        found[name] = client.infer("hash", given, **options).as_numpy("scores").tolist()
    found["id"] = client.infer("hash", given, request_id="id-7").get_response()["id"]
    for name, binary in (("classes", True), ("classes in json", False)):
        wanted = [triton.InferRequestedOutput("scores", binary_data=binary, class_count=3)]
        texts = client.infer("hash", given, outputs=wanted).as_numpy("scores").tolist()
        found[name] = [[each.decode() if isinstance(each, bytes) else each for each in row] for row in texts]
    return found


def tensors(client):
    """A program, with inputs of both kinds, and what is wrong."""
    a, b = np.arange(8, dtype=np.int32).reshape(2, 4), np.ones((2, 4), np.int32)
    given = [tensor(triton, "A", a, "INT32"), tensor(triton, "B", b, "INT32", binary_data=False)]
    result = client.infer("sums", given)
    text = client.infer("m", [tensor(triton, "IN", np.array([np.nan, 1], np.float16), "FP16")])
    wrong = [tensor(triton, "A", a.reshape(8), "INT32"), given[1]]
    return {
        "sum": result.as_numpy("OUTPUT__0").tolist(),
        "difference": result.as_numpy("OUTPUT__1").tolist(),
        "text": [str(text.as_numpy("OUT").tolist()), text.as_numpy("TXT").tolist()[0].decode()],
        "wrong": error_of(lambda: client.infer("sums", wrong)),
        "bad image": error_of(
            lambda: client.infer("hash", [tensor(triton, "image", np.array([b"no image"], object), "BYTES")])
        ),
    }


def load(client, data, count):
    """How many of many requests at once were answered alike."""
    given = [tensor(triton, "image", np.array([data], object), "BYTES")]
    expected = client.infer("hash", given).as_numpy("scores")
    pending, good = [], 0
    for _ in range(count):
        pending.append(client.async_infer("hash", given))
        if len(pending) >= 4 * CONCURRENCY:
            good += np.array_equal(pending.pop(0).get_result().as_numpy("scores"), expected)
    return good + sum(np.array_equal(each.get_result().as_numpy("scores"), expected) for each in pending)


def main(address, file, count):
    with open(file, "rb") as stream:  # noqa: PTH123
        data = stream.read()
    with triton.InferenceServerClient(address, concurrency=CONCURRENCY) as client:
        found = {"about": about(client), "images": images(client, data), "tensors": tensors(client)}
        found["good"] = int(load(client, data, int(count)))
    print(json.dumps(found))


main(*sys.argv[1:])
