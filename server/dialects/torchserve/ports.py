"""What the applications of TorchServe's ports have in common."""

from __future__ import annotations

from aiohttp import web

from server.config import TorchServeConfig
from server.dialects.torchserve.handlers import TorchServe
from server.dialects.torchserve.replies import common_headers, cors_headers
from server.http.answer import Handler
from server.http.dialect import DIALECTS
from server.operations.torchserve_metrics import TorchServeMetrics


def add_inference(app: web.Application, dialect: TorchServe, handle: Handler) -> None:
    """Routes every request that no other route takes."""
    for path in dialect.paths():
        app[DIALECTS].add("", path, dialect)
    app.router.add_route("*", "/{path:.*}", handle, expect_handler=dialect.expect)


def add_common(app: web.Application, given: TorchServeConfig, metrics: TorchServeMetrics) -> None:
    """Gives every response of an application TorchServe's headers, and counts it."""
    app.on_response_prepare.append(common_headers(cors_headers(given), metrics.count_response))
