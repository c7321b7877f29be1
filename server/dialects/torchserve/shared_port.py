"""Inference and management on one port: workers pass on to the supervisor what is the management's."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from server.http.context import CONTEXT
from server.http.exchange import EXCHANGE
from server.torchserve_config import INNER_VARIABLE

_MAX_BODY = 65_536
_HOST = "localhost"  # not the client's, which may be no part of a URL, or have a user and a password in it
_PLACES = ("models", "token", "workflows")
_FRAMING = ("connection", "content-length", "transfer-encoding", "keep-alive", "host", "expect", "x-request-id")
_ANSWERED = ("server", "date", "x-request-id", *_FRAMING)
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_TIMES = aiohttp.ClientTimeout(total=None, sock_connect=10)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_management(raw_path: str) -> bool:
    """Whether a path is the management's: /models/NAME/invoke and /v1/models/NAME:predict are not."""
    first, *rest = unquote(raw_path, errors="replace").strip("/").split("/")
    if first == "v1":
        return len(rest) == 2 and rest[0] == "models" and ":" not in rest[1]
    return first in _PLACES and rest[1:] != ["invoke"]


class SharedPort:
    """What answers on the port."""

    def __init__(self, inference: Handler) -> None:
        """Creates it; inference: answers all the rest."""
        self._inference = inference
        self._path = os.environ.get(INNER_VARIABLE, "")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request."""
        if is_management(request.rel_url.raw_path):
            return await self._passed_on(request)
        return await self._inference(request)

    async def _passed_on(self, request: web.Request) -> web.Response:
        context, exchange = request.app[CONTEXT], request[EXCHANGE]
        deadline = exchange.deadline(context.config.limits.request_timeout_ms)
        context.bodies.check_announced(request, _MAX_BODY)
        body = await context.bodies.read(request, _MAX_BODY, deadline)
        context.bodies.memory.give_back(len(body))
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _FRAMING]
        url = URL(f"http://{_HOST}{request.rel_url.raw_path_qs}", encoded=True)
        connector = aiohttp.UnixConnector(self._path)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMES, auto_decompress=False) as session,
            session.request(
                request.method, url, data=bytes(body), headers=[*headers, ("X-Request-ID", exchange.id)],
                skip_auto_headers=_NOT_ADDED, allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _ANSWERED]
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)
