"""Clients of the Open Inference Protocol: bodies over HTTP, messages over gRPC, load by h2load, loading models."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple

import grpc
import numpy as np
import orjson
from numpy.typing import NDArray

from server.dialects.open_inference.rpc.generated import open_inference_pb2 as pb
from server.dialects.open_inference.rpc.generated.open_inference_pb2_grpc import GRPCInferenceServiceStub

_CALL = "/inference.GRPCInferenceService/ModelInfer"
_REQUESTS = re.compile(r"^requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")


class Body(NamedTuple):
    """A request over HTTP.

    Attributes:
        content: its bytes.
        headers: that go with it.
    """

    content: bytes
    headers: Mapping[str, str]


class TensorAsked(NamedTuple):
    """An input of a request.

    Attributes:
        name: of the input.
        values: float32 of any shape, or the bytes of an image.
    """

    name: str
    values: NDArray[np.float32] | bytes

    @property
    def _datatype(self) -> str:
        return "BYTES" if isinstance(self.values, bytes) else "FP32"

    @property
    def _shape(self) -> list[int]:
        return [1] if isinstance(self.values, bytes) else list(self.values.shape)

    @property
    def _described(self) -> dict[str, object]:
        return {"name": self.name, "datatype": self._datatype, "shape": self._shape}

    @property
    def _raw(self) -> bytes:
        if isinstance(self.values, bytes):
            return len(self.values).to_bytes(4, "little") + self.values
        return self.values.tobytes()

    def binary(self) -> Body:
        """With the bytes behind the JSON, and outputs alike."""
        raw = self._raw
        given = {**self._described, "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
        return Body(head + raw, {"Inference-Header-Content-Length": str(len(head))})

    def in_json(self) -> Body:
        """As JSON alone."""
        data: object
        if isinstance(self.values, bytes):
            data = [base64.b64encode(self.values).decode()]
        else:
            data = self.values.reshape(-1)
        document = {"inputs": [{**self._described, "data": data}]}
        return Body(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), {})

    def message(self, model: str) -> pb.ModelInferRequest:
        """For gRPC, with raw contents."""
        kind = pb.ModelInferRequest.InferInputTensor
        given = kind(name=self.name, datatype=self._datatype, shape=self._shape)
        return pb.ModelInferRequest(model_name=model, inputs=[given], raw_input_contents=[self._raw])


def rpc_answer(address: str, message: pb.ModelInferRequest) -> bytes:
    """The first output of a call. Raises grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        answer = stub.ModelInfer(message, timeout=60)
    return bytes(answer.raw_output_contents[0])


def rpc_load(
    address: str, message: pb.ModelInferRequest, connections: int, seconds: float, at_once: int = 1
) -> dict[str, float]:
    """Closed-loop load by h2load from one thread.

    h2load sees no status of gRPC: the server's metrics tell whether the calls were answered.

    Args:
        address: HOST:PORT.
        message: of every call.
        connections: of all.
        seconds: that it lasts.
        at_once: calls in flight on each connection.

    Returns:
        Requests and seconds.

    Raises:
        RuntimeError: h2load is missing, or met an error.
    """
    program = shutil.which("h2load")
    if program is None:
        raise RuntimeError("h2load is not installed: Debian's package nghttp2-client has it")
    content = message.SerializeToString()
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0" + len(content).to_bytes(4, "big") + content)  # not compressed; its length
        file.flush()
        words = [program, "-t1", f"-c{connections}", f"-m{at_once}", f"-D{seconds:g}", "-d", file.name]
        words += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{address}{_CALL}"]
        output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    (found,) = filter(None, map(_REQUESTS.match, output.splitlines()))
    done, succeeded, *errors = map(int, found.groups())
    if any(errors) or not succeeded == done > 0:
        raise RuntimeError(f"h2load met errors, or had no answer in time: {found[0]}")
    return {"requests": done, "seconds": seconds}


def load_model(managing: str, token: str, name: str) -> None:
    """Loads a model of the store. managing: URL of the port of management. Raises OSError."""
    request = urllib.request.Request(
        f"{managing}/v2/repository/models/{name}/load", b"{}", {"Authorization": f"Bearer {token}"}
    )
    urllib.request.urlopen(request, timeout=120).close()
