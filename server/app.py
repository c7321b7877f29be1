"""Composition: configuration and bundles in, an aiohttp application out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from server.catalog import Bundles, Catalog
from server.config import Config
from server.context import CONTEXT, Context, request_id_of
from server.cors import add_cors_headers, preflight
from server.metrics import Metrics
from server.protocol import SERVER
from server.routes import add_routes
from server.upload import UploadReader

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(config: Config, bundles: Bundles) -> web.Application:
    """An application whose models are not loaded yet: `app[CONTEXT].catalog.load()` does that."""
    # aiohttp's own limit is out of the way: `UploadReader` bounds every body.
    app = web.Application(middlewares=[answer], client_max_size=0)
    metrics = Metrics()
    catalog = Catalog(config, bundles, metrics)
    app[CONTEXT] = Context(config, catalog, metrics, UploadReader(config.limits, catalog.decode_pool))
    add_routes(app)
    return app


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every request: counts it, turns what goes wrong into a problem, adds the common headers."""
    context = request.app[CONTEXT]
    origins = context.config.server.cors_origin
    context.in_flight += 1
    try:
        response = preflight(request, origins) or await handler(request)
        context.count(request, "ok" if response.status == 200 else "all-failed")
    except asyncio.CancelledError:
        context.count(request, "client-left")
        raise
    except Exception as error:
        response = context.refuse(request, error)
    finally:
        context.in_flight -= 1
    context.answered += 1
    response.headers["Server"] = SERVER
    response.headers["X-Request-ID"] = request_id_of(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    add_cors_headers(request, response, origins)
    if context.draining:
        response.force_close()
    return response
