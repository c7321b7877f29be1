"""Cross-origin requests (https://fetch.spec.whatwg.org/#http-cors-protocol), off unless origins are named."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, X-Request-ID, X-Request-Timeout-Ms",
    "Access-Control-Max-Age": "86400",
}


def preflight(request: web.Request, origins: Sequence[str]) -> web.Response | None:
    """The answer to a browser's preflight from an allowed origin; None for anything else."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    return web.Response(status=204, headers=_ALLOWED) if _allowed_origin(request, origins) else None


def add_cors_headers(request: web.Request, response: web.StreamResponse, origins: Sequence[str]) -> None:
    """Lets the pages of an allowed origin read the answer."""
    if not origins:
        return
    if "*" not in origins:
        response.headers["Vary"] = "Origin"
    origin = _allowed_origin(request, origins)
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "X-Request-ID, Server-Timing, Retry-After"


def _allowed_origin(request: web.Request, origins: Sequence[str]) -> str | None:
    if "*" in origins:
        return "*"
    origin = request.headers.get("Origin")
    return origin if origin in origins else None
