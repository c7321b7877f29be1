"""Health, metadata, configuration, statistics and the repository: all but inference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from runtime.errors import UnknownModel
from runtime.model import ModelFacts
from runtime.store import ModelStore
from server.dialects.open_inference.handlers import OpenInference
from server.dialects.open_inference.metadata import (
    config_document,
    index_of,
    model_document,
    server_document,
)
from server.dialects.open_inference.response import json_response
from server.dialects.open_inference.statistics import statistics_of
from server.http.answer import add_dialect
from server.http.context import CONTEXT, Context
from server.http.faults import Fault, Refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_LOADING = Fault(
    404,
    "unknown-model",
    "No such model",
    "No model of that name is loaded. Models of --model-store are loaded on the port of --management-port.",
)
_UNLOADING = Fault(
    403,
    "not-here",
    "Not on this port",
    "Models are not unloaded on this port: every client could do it. Use the port of --management-port.",
)


def add_open_inference(app: web.Application, dialect: OpenInference, prefix: str = "") -> None:
    """Routes to all of the protocol, with and without a slash at the end.

    Args:
        app: gets the routes.
        dialect: that answers inferences.
        prefix: before every path; "" or "/path".
    """
    pages: dict[str, Handler] = {
        "/v2": server,
        "/v2/health/live": live,
        "/v2/health/ready": ready,
        "/v2/models/stats": statistics,
    }
    for path in (_MODEL, _VERSION):
        pages |= {path: model, f"{path}/ready": model_ready, f"{path}/config": config, f"{path}/stats": statistics}
    posts: dict[str, Handler] = {
        "/v2/repository/index": index,
        "/v2/repository/models/{model}/load": load,
        "/v2/repository/models/{model}/unload": unload,
    }
    add_dialect(app, dialect, prefix)
    for end in ("", "/"):
        for path, handler in pages.items():
            app.router.add_get(f"{prefix}{path}{end}", handler)
        for path, handler in posts.items():
            app.router.add_post(f"{prefix}{path}{end}", handler)


async def server(request: web.Request) -> web.Response:
    """`GET /v2`."""
    return json_response(server_document())


async def live(request: web.Request) -> web.Response:
    """`GET /v2/health/live`."""
    return json_response({"live": True})


async def ready(request: web.Request) -> web.Response:
    """`GET /v2/health/ready`. Raises what `Context.check_ready` raises."""
    request.app[CONTEXT].check_ready()
    return json_response({"ready": True})


async def model_ready(request: web.Request) -> web.Response:
    """`GET /v2/models/{model}/ready`: a request would be taken; raises what would keep it from that."""
    name = check_model_ready(request.app[CONTEXT], *_key(request))
    return json_response({"name": name, "ready": True})


async def model(request: web.Request) -> web.Response:
    """`GET /v2/models/{model}`. Raises UnknownModel."""
    facts, store = _facts(request), request.app[CONTEXT].store
    return json_response(model_document(facts, versions_of(store, facts.name)))


async def config(request: web.Request) -> web.Response:
    """`GET /v2/models/{model}/config`. Raises UnknownModel."""
    return json_response(config_document(_facts(request)))


async def statistics(request: web.Request) -> web.Response:
    """`GET /v2/models/{model}/stats`, or of all models. Raises UnknownModel."""
    context, facts = request.app[CONTEXT], _facts(request) if "model" in request.match_info else None
    return json_response({"model_stats": statistics_of(context, facts, request.match_info.get("version"))})


async def index(request: web.Request) -> web.Response:
    """`POST /v2/repository/index`."""
    return json_response(index_of(request.app[CONTEXT].store))


async def load(request: web.Request) -> web.Response:
    """`POST /v2/repository/models/{model}/load`, as a request to the model would."""
    authorization = request.headers.get("Authorization", "")
    await load_model(request.app[CONTEXT], request.match_info["model"], authorization)
    return json_response({})


async def unload(request: web.Request) -> web.Response:
    """`POST /v2/repository/models/{model}/unload`. Raises UnknownModel, Refusal."""
    refuse_unload(request.app[CONTEXT].store, request.match_info["model"])
    return json_response({})


def check_model_ready(context: Context, name: str, version: str | None) -> str:
    """The name of a model that takes requests; one that is loaded on first use does. Raises what they would."""
    context.store.awake(name, version)
    deployment = context.store.peek(name, version)
    if deployment is not None and (unavailable := deployment.runner.unavailable()):
        raise unavailable
    return name


def versions_of(store: ModelStore, name: str) -> list[str]:
    """The versions of a model."""
    return [each.version for each in store.status() if each.name == name]


async def load_model(context: Context, name: str, authorization: str) -> None:
    """Loads what is known.

    Raises:
        Refusal: it is not known; only --management-port adds models.
        ModelError: it does not load.
        Unauthorized: it wants a key, which the header `authorization` has not.
    """
    if context.check_key is not None:
        context.check_key(name, None, authorization)
    try:
        async with context.store.use(name):
            pass
    except UnknownModel:
        raise Refusal(_LOADING) from None


def refuse_unload(store: ModelStore, name: str) -> None:
    """Raises UnknownModel or Refusal."""
    store.model(name)
    raise Refusal(_UNLOADING)


def _key(request: web.Request) -> tuple[str, str | None]:
    return request.match_info["model"], request.match_info.get("version")


def _facts(request: web.Request) -> ModelFacts:
    return request.app[CONTEXT].store.model(*_key(request)).facts
