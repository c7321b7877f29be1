"""Health probes and metrics."""

from __future__ import annotations

from aiohttp import web

from server.http.context import CONTEXT


async def healthz(request: web.Request) -> web.Response:
    """GET /healthz: the process answers."""
    return web.json_response({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: every model is loaded and warm in some worker, and the server is not draining."""
    context = request.app[CONTEXT]
    context.check_ready()
    if context.ready_workers is None:
        return web.json_response({"status": "ready"})
    workers = {"ready": context.ready_workers, "all": context.config.server.workers}
    return web.json_response({"status": "ready", "workers": workers})


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics, in Prometheus' text format."""
    return web.Response(
        body=request.app[CONTEXT].metrics.exposition(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )
