"""GET /models: what is served."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from runtime.store import ModelStore
from server.http.context import CONTEXT


async def list_models(request: web.Request) -> web.Response:
    """GET /models."""
    store = request.app[CONTEXT].store
    documents = [_document(store, name, whole=False) for name in store.models]
    return web.json_response({"models": documents, "default": store.default})


async def show_model(request: web.Request) -> web.Response:
    """GET /models/{name}."""
    store, name = request.app[CONTEXT].store, request.match_info["name"]
    if name not in store.models:
        store.find(name)
    return web.json_response(_document(store, name, whole=True))


def _document(store: ModelStore, name: str, whole: bool) -> dict[str, Any]:
    deployment = store.loaded(name)
    return store.models[name].document(deployment.runner.facts if deployment else None, whole)
