"""TorchServe's metrics API: `/metrics` on a port of its own."""

from __future__ import annotations

from aiohttp import web

from server.dialects.torchserve.exposition import exposition
from server.dialects.torchserve.host import Host
from server.dialects.torchserve.openapi import metrics_api
from server.dialects.torchserve.replies import json_response, not_allowed, not_found
from server.dialects.torchserve.route import Place, route_of
from server.operations.metrics import Metrics

_HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class MetricsApi:
    """Answers requests of the metrics port."""

    def __init__(self, metrics: Metrics, is_shown: bool) -> None:
        """Creates it.

        Args:
            metrics: of the process, TorchServe's among them.
            is_shown: False: the answer is empty, as with metrics_mode=log.
        """
        assert metrics.torchserve is not None
        self._metrics = metrics
        self._hostname = metrics.torchserve.hostname
        self._is_shown = is_shown
        self._host = Host()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any method, and any path. Raises Refusal."""
        place = route_of(request.rel_url.raw_path).place
        if place is Place.METRICS:
            return self.show(request)
        if place is not Place.ROOT:
            raise not_found()
        if request.method != "OPTIONS":
            raise not_allowed()
        return json_response(metrics_api())

    def show(self, request: web.Request) -> web.Response:
        """The metrics, all or those that the query names."""
        if not self._is_shown:
            return web.Response(body=b"", headers=_HEADERS)
        wanted = set(request.query.getall("name[]", ()))
        families, of_host = self._metrics.families(), self._host.read()
        return web.Response(body=exposition(families, of_host, self._hostname, wanted), headers=_HEADERS)


def add_metrics(app: web.Application, api: MetricsApi) -> None:
    """Routes every request of the metrics port."""
    app.router.add_route("*", "/{path:.*}", api.handle)
