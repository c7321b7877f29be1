"""Composition: configuration and bundles in, an aiohttp application out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from server.balance import LoadMeter
from server.catalog import Bundles, Catalog
from server.config import Config
from server.context import CONTEXT, Context
from server.cors import preflight
from server.metrics import Metrics, SharedMetrics
from server.routes import add_routes
from server.upload import UploadReader

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(config: Config, bundles: Bundles, shared: SharedMetrics | None = None) -> web.Application:
    """An application whose models are not loaded yet: `app[CONTEXT].catalog.load()` does that.

    Args:
        config: of this process.
        bundles: to be served.
        shared: where the figures of other workers are.
    """
    # aiohttp's own limit is out of the way: `UploadReader` bounds every body.
    app = web.Application(middlewares=[answer], client_max_size=0)
    metrics = Metrics(shared)
    catalog = Catalog(config, bundles, metrics)
    reader = UploadReader(config.limits, catalog.decode_pool)
    app[CONTEXT] = Context(config, catalog, metrics, reader, LoadMeter(time.monotonic))
    add_routes(app)
    return app


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every request: counts it, and turns what goes wrong into a problem."""
    context = request.app[CONTEXT]
    context.in_flight += 1
    try:
        response = preflight(request, context.config.server.cors_origin) or await handler(request)
        context.count(request, "ok" if response.status < 400 else "all-failed")
        return context.finish(request, response)
    except asyncio.CancelledError:
        context.count(request, "client-left")
        raise
    except Exception as error:
        return context.refuse(request, error)
    finally:
        context.in_flight -= 1
        context.answered += 1
