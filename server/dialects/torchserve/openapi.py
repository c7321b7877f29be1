"""OpenAPI descriptions of TorchServe's APIs, made from lists of operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from snapserve import __version__

API_VERSION = "0.12.0"  # of the TorchServe whose APIs are answered

_ERRORS = {
    400: "Bad request",
    404: "Model not found",
    500: "Internal Server Error",
    503: "No worker is available to serve request",
}
_JSON = "application/json"
_ANY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_PARAMETER = re.compile(r"\{(\w+)\}")


class Operation(NamedTuple):
    """One method of one address.

    Attributes:
        path: with {names} of what varies.
        method: in lower case.
        id: of the operation.
        text: what it does.
        answers: 200's body: the JSON schema, or None for any bytes.
        takes_body: whether it has one.
        query: parameters, with the type of each.
        errors: statuses that it may have.
    """

    path: str
    method: str
    id: str
    text: str
    answers: Mapping[str, Any] | None = None
    takes_body: bool = False
    query: Mapping[str, str] = {}
    errors: tuple[int, ...] = ()


def _object(**properties: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}


STATUS = _object(status="string")
_ERROR = _object(code="integer", type="string", message="string")
_PREDICTING = (400, 404, 500, 503)

ROOT = Operation("/", "options", "apiDescription", "Get the OpenAPI description of this port.", _object())
METRICS = Operation(
    "/metrics", "get", "metrics", "Get metrics in Prometheus' text format.", None, query={"name[]": "string"}
)


def _predict(path: str, id: str = "predictions", text: str = "Predict with the default version.") -> Operation:
    return Operation(path, "post", id, text, None, takes_body=True, errors=_PREDICTING)


_INFERENCE = (
    ROOT,
    Operation("/ping", "get", "ping", "Get whether the server is healthy.", STATUS, errors=(500,)),
    _predict("/predictions/{model_name}"),
    _predict("/predictions/{model_name}/{model_version}", "version_predictions", "Predict with one version."),
    _predict("/explanations/{model_name}", "explanations", "Explain a prediction of the default version."),
    _predict("/v1/models/{model_name}:predict"),
    _predict("/v2/models/{model_name}/infer"),
    Operation("/api-description", "get", "apiDescription", ROOT.text, _object()),
    METRICS,
)


def inference_api() -> dict[str, Any]:
    """Of the inference port."""
    return server_api(_INFERENCE)


def metrics_api() -> dict[str, Any]:
    """Of the metrics port."""
    return server_api((METRICS, ROOT))


def server_api(operations: Iterable[Operation]) -> dict[str, Any]:
    """Of one port."""
    about = f"The APIs of TorchServe {API_VERSION}, answered by SnapServe {__version__}"
    info = {"title": "TorchServe APIs", "description": about, "version": API_VERSION}
    return document_of(info, operations)


def model_api(name: str) -> dict[str, Any]:
    """Of one model."""
    text = f"Predict with the model {name}."
    paths = (f"/prediction/{name}", "/v1/models/{model_name}:predict", "/v2/models/{model_name}/infer")
    info = {"title": f"RESTful API for: {name}", "version": "1.0.0"}
    return document_of(info, [_predict(path, name, text) for path in paths])


def document_of(info: Mapping[str, str], operations: Iterable[Operation]) -> dict[str, Any]:
    """An OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method] = _described(each)
    return {"openapi": "3.0.1", "info": dict(info), "paths": paths}


def _described(operation: Operation) -> dict[str, Any]:
    inside = [_parameter("path", name, "string", True) for name in _PARAMETER.findall(operation.path)]
    query = [_parameter("query", name, kind, False) for name, kind in operation.query.items()]
    found: dict[str, Any] = {
        "description": operation.text,
        "operationId": operation.id,
        "parameters": inside + query,
    }
    if operation.takes_body:
        found["requestBody"] = {"content": _ANY, "required": True}
    good = _ANY if operation.answers is None else {_JSON: {"schema": operation.answers}}
    errors = {
        str(status): {"description": _ERRORS[status], "content": {_JSON: {"schema": _ERROR}}}
        for status in operation.errors
    }
    found["responses"] = {"200": {"description": "OK", "content": good}, **errors}
    return found


def _parameter(place: str, name: str, kind: str, required: bool) -> dict[str, Any]:
    return {"in": place, "name": name, "required": required, "schema": {"type": kind}}
