"""Composition: configuration and bundles in, an aiohttp application out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from runtime.store import Bundles, Catalog
from server.balance import LoadMeter
from server.config import Config
from server.dialects.classify.handlers import add_routes
from server.http.body import UploadReader
from server.http.cors import preflight
from server.http.exchange import CONTEXT, Context, request_id_of
from server.http.forwarded import Proxies
from server.operations.access_log import STARTED, AccessLog
from server.operations.metrics import Metrics, SharedMetrics

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
    proxies = Proxies(config.server.trusted_proxy, config.server.root_path)
    log = config.server
    access_log = AccessLog(log.access_log_format, log.access_log_probes, proxies) if log.access_log else None
    app[CONTEXT] = Context(config, catalog, metrics, reader, LoadMeter(time.monotonic), proxies, access_log)
    for prefix in {"", config.server.root_path}:
        add_routes(app, prefix)
    return app


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every request: counts it, and turns what goes wrong into a problem."""
    context = request.app[CONTEXT]
    context.in_flight += 1
    if context.access_log:
        request[STARTED] = time.monotonic()
    try:
        response = preflight(request, context.config.server.cors_origin) or await handler(request)
        context.count(request, "ok" if response.status < 400 else "all-failed")
        return context.finish(request, response)
    except asyncio.CancelledError:
        context.count(request, "client-left")
        if context.access_log:
            context.access_log.log_left(request, request_id_of(request))
        raise
    except Exception as error:
        return context.refuse(request, error)
    finally:
        context.in_flight -= 1
        context.answered += 1
