"""An answer as JSON, with the bytes of tensors behind it where they are wanted so."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from runtime.model import ModelFacts
from server.dialects.open_inference.request import Wanted
from server.dialects.open_inference.tensors import Tensor, to_bytes, to_json
from server.http.encoded_body import ENCODINGS
from server.http.faults import Fault
from server.operations.access_log import OUTCOME

HEADER_LENGTH = "Inference-Header-Content-Length"
_COMPRESSED = 1_000  # bytes from which on a response is compressed
_WORTH_IT = 0.9  # of its size, at most
_LEVEL = 1  # the fastest
_REFUSED = re.compile(r"q=0(\.0*)?")

Outputs = Sequence[tuple[Tensor, Wanted]]


def infer_response(facts: ModelFacts, request_id: str, outputs: Outputs, encoding: str = "") -> web.Response:
    """The response to an inference.

    Args:
        facts: of the model that answered.
        request_id: of the client; "" for none.
        outputs: that are wanted.
        encoding: that the client takes, "gzip" or "deflate"; "" for none.

    Raises:
        BadRequest: an output has no JSON form, and is wanted in JSON.
    """
    parts: list[bytes | memoryview] = [b""]
    documents = [_document(tensor, parts if wanted.is_binary else None) for tensor, wanted in outputs]
    named = {"id": request_id} if request_id else {}
    answer = {"model_name": facts.name, "model_version": facts.version, **named, "outputs": documents}
    parts[0] = orjson.dumps(answer)
    headers, content_type = {}, "application/json"
    if len(parts) > 1:
        headers[HEADER_LENGTH], content_type = str(len(parts[0])), "application/octet-stream"
    body = b"".join(parts)
    if encoding and len(body) >= _COMPRESSED:
        packed = gzip.compress(body, _LEVEL, mtime=0) if encoding == "gzip" else zlib.compress(body, _LEVEL)
        if len(packed) <= _WORTH_IT * len(body):
            body, headers["Content-Encoding"] = packed, encoding
    return web.Response(body=body, headers=headers, content_type=content_type)


def json_response(document: Mapping[str, Any] | Sequence[Any], status: int = 200) -> web.Response:
    """A document about the server or its models."""
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


def error_response(fault: Fault) -> web.Response:
    """`{"error": text}`, in one line."""
    hint = fault.extras.get("hint")
    text = f"{fault.detail} {hint}" if hint else fault.detail
    response = json_response({"error": text or fault.title}, fault.status)
    response.headers.update(fault.headers)
    response[OUTCOME] = fault.kind
    return response


def wanted_encoding(accepted: str) -> str:
    """The first encoding of ours that a header Accept-Encoding names; "" for none."""
    for each in accepted.lower().split(","):
        name, _, quality = each.replace(" ", "").partition(";")
        if name in ENCODINGS and not _REFUSED.fullmatch(quality):
            return name
    return ""


def _document(tensor: Tensor, parts: list[bytes | memoryview] | None) -> dict[str, Any]:
    document = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if parts is None:
        return {**document, "data": to_json(tensor)}
    data = to_bytes(tensor)
    parts.append(data)
    return {**document, "parameters": {"binary_data_size": len(data)}}
