"""Drives a server with the real `tritonclient.grpc`; run by its own interpreter. Prints what it found as JSON.

Usage: triton_grpc.py HOST:PORT IMAGE REQUESTS [CERTIFICATE]
"""

from __future__ import annotations

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

AT_ONCE = 32


def tensor(name, array, datatype):
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
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
    as_json = {"as_json": True}
    config = client.get_model_config("hash", **as_json)["config"]
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": [client.is_model_ready(*each) for each in (("hash",), ("hash", "1"), ("no",))],
        "server": client.get_server_metadata(**as_json),
        "model": client.get_model_metadata("m", **as_json),
        "version": client.get_model_metadata("hash", "1", **as_json),
        "config": config,
        "index": client.get_model_repository_index(**as_json)["models"],
        "statistics": client.get_inference_statistics("hash", **as_json),
        "all": len(client.get_inference_statistics(**as_json)["model_stats"]),
        "load": client.load_model("m"),
        "unload": error_of(lambda: client.unload_model("m")),
        "missing": error_of(lambda: client.get_model_metadata("no")),
        "logging": error_of(client.get_log_settings),
        "trace": error_of(lambda: client.get_trace_settings("m")),
    }


def images(client, data):
    """One picture in every way that the client can send and ask."""
    given = [tensor("image", np.array([data], object), "BYTES")]
    found = {}
    for name, options in {
        "plain": {},
        "output": {"outputs": [triton.InferRequestedOutput("scores")]},
        "gzip": {"compression_algorithm": "gzip"},
        "version": {"model_version": "1", "request_id": "id-7"},
        "parameters": {"parameters": {"top_k": 3}, "priority": 1, "timeout": 1000},
        "sequence": {"sequence_id": 5, "sequence_start": True, "sequence_end": False},
        "timeout": {"client_timeout": 20.0, "headers": {"authorization": "Bearer t"}},
    }.items():
        found[name] = client.infer("hash", given, **options).as_numpy("scores").tolist()
    found["id"] = client.infer("hash", given, request_id="id-7").get_response().id
    wanted = [triton.InferRequestedOutput("scores", class_count=3)]
    texts = client.infer("hash", given, outputs=wanted).as_numpy("scores").tolist()
    found["classes"] = [[each.decode() for each in row] for row in texts]
    return found


def tensors(client):
    """A program, and what is wrong."""
    a, b = np.arange(8, dtype=np.int32).reshape(2, 4), np.ones((2, 4), np.int32)
    given = [tensor("A", a, "INT32"), tensor("B", b, "INT32")]
    result = client.infer("sums", given)
    text = client.infer("m", [tensor("IN", np.array([np.nan, 1], np.float16), "FP16")])
    wrong = [tensor("A", a.reshape(8), "INT32"), given[1]]
    bad = [tensor("image", np.array([b"no image"], object), "BYTES")]
    return {
        "sum": result.as_numpy("OUTPUT__0").tolist(),
        "difference": result.as_numpy("OUTPUT__1").tolist(),
        "text": [str(text.as_numpy("OUT").tolist()), text.as_numpy("TXT").tolist()[0].decode()],
        "wrong": error_of(lambda: client.infer("sums", wrong)),
        "bad image": error_of(lambda: client.infer("hash", bad)),
    }


def load(client, data, count):
    """How many of many requests were answered alike: half of them at once, half in a stream with a bad one."""
    given, answers = [tensor("image", np.array([data], object), "BYTES")], queue.Queue()
    expected = client.infer("hash", given).as_numpy("scores")

    def note(result, error):
        answers.put((result, error))

    def is_good():
        result, error = answers.get(timeout=60)
        return error is None and np.array_equal(result.as_numpy("scores"), expected)

    good = 0
    for number in range(count // 2):
        client.async_infer("hash", given, note)
        good += number >= AT_ONCE and is_good()
    good += sum(is_good() for _ in range(AT_ONCE))
    client.start_stream(note)
    bad = [tensor("image", np.array([b"no image"], object), "BYTES")]
    for number in range(count // 2):
        client.async_stream_infer("hash", given, request_id=str(number))
        if number == 3:
            client.async_stream_infer("hash", bad, request_id="bad")
    found = [answers.get(timeout=60) for _ in range(count // 2 + 1)]
    client.stop_stream()
    bad_one = found.pop(4)
    names = [result.get_response().id for result, error in found if error is None]
    in_order = names == [str(number) for number in range(count // 2)] and "no supported" in str(bad_one[1])
    return (
        good + sum(np.array_equal(result.as_numpy("scores"), expected) for result, _ in found) if in_order else 0
    )


def main(address, file, count, certificate=None):
    with open(file, "rb") as stream:  # noqa: PTH123
        data = stream.read()
    tls = {"ssl": True, "root_certificates": certificate} if certificate else {}
    with triton.InferenceServerClient(address, **tls) as client:
        found = {"about": about(client), "images": images(client, data), "tensors": tensors(client)}
        found["good"] = int(load(client, data, int(count)))
    print(json.dumps(found))


main(*sys.argv[1:])
