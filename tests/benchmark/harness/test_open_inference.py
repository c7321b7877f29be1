"""The benchmark's clients of the Open Inference Protocol say the same over HTTP and gRPC, and see errors."""

from __future__ import annotations

from base64 import b64decode

import numpy as np
import pytest

from benchmark.harness.open_inference import TensorAsked, rpc_load
from server.dialects.open_inference.request import read_document
from server.dialects.open_inference.rpc.messages import request_of

FLOATS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("values", [FLOATS, b"an image"], ids=["floats", "image"])
def test_every_way_sends_the_same_tensor(values):
    asked = TensorAsked("x", values)
    found = []
    for body in (asked.binary(), asked.in_json()):
        size = int(body.headers.get("Inference-Header-Content-Length", len(body.content)))
        found += read_document(memoryview(body.content), size).request().tensors
    found += request_of(asked.message("m")).tensors
    for each in found:
        assert each.name == "x"
        if isinstance(values, bytes):
            assert [b64decode(one) if isinstance(one, str) else bytes(one) for one in each.values] == [values]
        else:
            assert np.array_equal(each.values, values)


@pytest.mark.parametrize(
    ("counts", "is_good"),
    [
        ("9 done, 9 succeeded, 0 failed, 0", True),
        ("9 done, 8 succeeded, 1 failed, 0", False),
        ("0 done, 0 succeeded, 0 failed, 0", False),
        ("9 done, 9 succeeded, 0 failed, 1", False),
    ],
)
def test_errors_of_the_load_are_seen(tmp_path, monkeypatch, counts, is_good):
    program = tmp_path / "h2load"
    program.write_text(f"#!/bin/sh\necho 'requests: 9 total, 9 started, {counts} errored, 0 timeout'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    message = TensorAsked("x", FLOATS).message("m")
    if is_good:
        assert rpc_load("127.0.0.1:1", message, 1, 2.0) == {"requests": 9, "seconds": 2.0}
        return
    with pytest.raises(RuntimeError, match="h2load met errors"):
        rpc_load("127.0.0.1:1", message, 1, 2.0)
