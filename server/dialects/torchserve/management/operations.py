"""The operations of the management API, for its OpenAPI description."""

from __future__ import annotations

from typing import Any

from server.dialects.torchserve.openapi import (
    API_VERSION,
    METRICS,
    ROOT,
    STATUS,
    Operation,
    document_of,
    server_api,
)

_LIST = {"type": "object", "properties": {"nextPageToken": {"type": "string"}, "models": {"type": "array"}}}
_DESCRIPTIONS = {"type": "array", "items": {"type": "object"}}
_SCALING = {"min_worker": "integer", "max_worker": "integer", "synchronous": "boolean"}
_ADDING = {
    "url": "string",
    "model_name": "string",
    "handler": "string",
    "runtime": "string",
    "batch_size": "integer",
    "max_batch_delay": "integer",
    "response_timeout": "integer",
    "startup_timeout": "integer",
    "initial_workers": "integer",
    "synchronous": "boolean",
}
_ALL = (
    Operation(
        "/models",
        "get",
        "listModels",
        "List models.",
        _LIST,
        query={"limit": "integer", "next_page_token": "string"},
    ),
    Operation("/models", "post", "registerModel", "Register an archive.", STATUS, True, _ADDING, (400, 404, 500)),
)


def _of_model(path: str, prefix: str, which: str) -> tuple[Operation, ...]:
    describing = {"customized": "boolean"}
    return (
        Operation(
            path,
            "get",
            f"{prefix}describeModel",
            f"Describe {which}.",
            _DESCRIPTIONS,
            query=describing,
            errors=(404,),
        ),
        Operation(
            path, "put", f"{prefix}setAutoScale", f"Scale {which}.", STATUS, query=_SCALING, errors=(400, 404, 500)
        ),
        Operation(path, "delete", f"{prefix}unregisterModel", f"Unregister {which}.", STATUS, errors=(404,)),
    )


_MODELS = (
    *_of_model("/models/{model_name}", "", "the default version of a model"),
    *_of_model("/models/{model_name}/{model_version}", "version_", "one version of a model"),
    Operation(
        "/models/{model_name}/{model_version}/set-default",
        "put",
        "setDefault",
        "Make a version the default one.",
        STATUS,
        errors=(404,),
    ),
)


def management_api() -> dict[str, Any]:
    """Of the management port."""
    description = Operation("/api-description", "get", "apiDescription", ROOT.text, ROOT.answers)
    return server_api((ROOT, description, METRICS, *_ALL, *_MODELS))


def management_api_of(name: str) -> dict[str, Any]:
    """Of one model on the management port."""
    return document_of({"title": f"RESTful Management API for: {name}", "version": API_VERSION}, _MODELS)
