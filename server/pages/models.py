"""GET /models: what is served."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from runtime.store import ModelStore
from server.http.context import CONTEXT


async def list_models(request: web.Request) -> web.Response:
    """GET /models."""
    store = request.app[CONTEXT].store
    documents = [_document(store, name, None, whole=False) for name in store.models]
    return web.json_response({"models": documents, "default": store.default})


async def show_model(request: web.Request) -> web.Response:
    """GET /models/{name}, and with ?version=."""
    store, name = request.app[CONTEXT].store, request.match_info["name"]
    return web.json_response(_document(store, name, request.query.get("version"), whole=True))


def _document(store: ModelStore, name: str, version: str | None, whole: bool) -> dict[str, Any]:
    model, deployment = store.model(name, version), store.loaded(name, version)
    document = model.document(deployment.runner.facts if deployment else None, whole)
    versions = [each.to_json() for each in store.status() if each.name == name]
    audience = deployment.audience if deployment else None
    report = audience.report() if audience else {}
    return {**document, "version": model.facts.version, "versions": versions, **report}
