"""Requests to TorchServe's management API."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from server.config import Config
from server.dialects.torchserve.keys import API, EXPIRING, MANAGEMENT, KeyFile
from server.dialects.torchserve.management.archives import Archives
from server.dialects.torchserve.management.operations import management_api, management_api_of
from server.dialects.torchserve.management.parameters import (
    Parameters,
    page,
    read_addition,
    read_json,
    workers,
)
from server.dialects.torchserve.management.shown_models import ShownModels
from server.dialects.torchserve.management.urls import without_secrets
from server.dialects.torchserve.replies import (
    error_response,
    json_response,
    not_allowed,
    not_found,
    status_response,
    wrong_key,
)
from server.http.body import BodyReader
from server.http.exchange import EXCHANGE, Exchange
from server.http.faults import fault_of, log_if_internal

log = logging.getLogger("snapserve")

MAX_BODY = 65_536  # bytes
_ALL = "all"
_OPEN: tuple[list[str], ...] = ([], ["api-description"])  # paths that need no key


class ManagementApi:
    """Answers any request of the port."""

    def __init__(self, config: Config, shown: ShownModels, archives: Archives, keys: KeyFile | None) -> None:
        """Creates it.

        Args:
            config: of the service.
            shown: models that are described.
            archives: that are managed.
            keys: that requests must have; None: they need none.
        """
        self._changes_models = config.torchserve.enable_model_api
        self._shown = shown
        self._archives = archives
        self._keys = keys
        self._bodies = BodyReader(config.limits)
        self._timeout_s = config.limits.request_timeout_ms / 1000

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request; an error becomes a response in TorchServe's words."""
        exchange = request[EXCHANGE] = Exchange(request)
        try:
            response = await self._answer(request)
        except Exception as error:
            fault = fault_of(error)
            log_if_internal(error, fault, exchange.id)
            response = error_response(fault)
        if request.method not in ("GET", "OPTIONS"):
            log.info("management: %s %s: %d", request.method, _logged(request)[:500], response.status)
        return exchange.finish(response, (), False, 0)

    async def _answer(self, request: web.Request) -> web.Response:
        parts = _parts(request.rel_url.raw_path)
        if parts not in _OPEN:
            self._check_key(request, API if parts == ["token"] and self._keys else MANAGEMENT)
        match parts:
            case [] if request.method == "OPTIONS":
                return json_response(management_api())
            case []:
                raise not_allowed()
            case ["api-description"]:
                return json_response(management_api())
            case ["token"] if self._keys:
                return self._rotate(self._keys, request)
            case ["workflows"]:
                return _only(request, "GET", json_response({"workflows": []}))
            case ["models"]:
                return await self._models(request)
            case ["models", name]:
                return await self._model(request, name, None)
            case ["models", name, version]:
                return await self._model(request, name, version)
            case ["models", name, version, "set-default"]:
                _check_method(request, "PUT")
                return status_response(await self._archives.set_default(name, version))
            case ["v1", "models", name]:
                _check_method(request, "GET")
                return json_response({"name": name, "ready": self._shown.has_workers(name)})
        raise not_found()

    def _check_key(self, request: web.Request, kind: str) -> None:
        if self._keys and not self._keys.is_allowed(kind, request.headers.get("Authorization", "")):
            raise wrong_key("Authentication") if kind == API else wrong_key()

    def _check_changes(self) -> None:
        if not self._changes_models:
            log.info("registering and unregistering models needs --enable-model-api")
            raise not_allowed()

    def _rotate(self, keys: KeyFile, request: web.Request) -> web.Response:
        kind = request.query.get("type", "")
        if kind not in EXPIRING:
            raise wrong_key("Authentication")
        keys.rotate(kind)
        return web.Response(body=b"\n", content_type="application/json")

    async def _models(self, request: web.Request) -> web.Response:
        _check_method(request, "GET", "POST")
        if request.method == "GET":
            return json_response(self._page(request.query))
        self._check_changes()
        status, text = await self._archives.register(read_addition(await self._parameters(request)))
        return status_response(text, status)

    async def _parameters(self, request: web.Request) -> Parameters:
        if request.content_type != "application/json" or "Content-Type" not in request.headers:
            return request.query
        self._bodies.check_announced(request, MAX_BODY)
        body = await self._bodies.read(request, MAX_BODY, time.monotonic() + self._timeout_s)
        self._bodies.memory.give_back(len(body))
        return read_json(bytes(body))

    def _page(self, query: Parameters) -> dict[str, Any]:
        first, count = page(query)
        models = list(self._shown.names().values())
        shown = [
            {"modelName": each.name, "modelUrl": (each.archive and each.archive.url) or each.path}
            for each in models[first : first + count]
        ]
        end = first + count
        return {**({"nextPageToken": str(end)} if end <= len(models) else {}), "models": shown}

    async def _model(self, request: web.Request, name: str, version: str | None) -> web.Response:
        _check_method(request, "GET", "PUT", "DELETE", "OPTIONS")
        match request.method:
            case "OPTIONS":
                self._shown.check_known(name)
                return json_response(management_api_of(name))
            case "PUT":
                return await self._scale(request, name, version)
            case "DELETE":
                self._check_changes()
                return status_response(await self._archives.unregister(name, version))
        is_all = version == _ALL
        headers = _headers(request) if request.query.get("customized", "").lower() == "true" else None
        return json_response(await self._shown.describe(name, None if is_all else version, is_all, headers))

    async def _scale(self, request: web.Request, name: str, version: str | None) -> web.Response:
        self._shown.check_known(name)
        query = request.query
        version = version or query.get("model_version") or None
        is_synchronous = query.get("synchronous", "").lower() == "true"
        status, text = await self._archives.scale(name, version, workers(query), is_synchronous)
        return status_response(text, status)


def _parts(raw_path: str) -> list[str]:
    """The parts of a path, which is decoded before it is split; slashes at its end do not count."""
    path = unquote(raw_path, errors="replace").rstrip("/")
    if path.startswith("//"):
        raise not_found()
    return path[1:].split("/") if path else []


def _logged(request: web.Request) -> str:
    """Path and query for the log."""
    query = [(name, without_secrets(value)) for name, value in request.query.items()]
    return str(request.rel_url.with_query(query))


def _check_method(request: web.Request, *allowed: str) -> None:
    if request.method not in allowed:
        raise not_allowed()


def _only(request: web.Request, method: str, response: web.Response) -> web.Response:
    _check_method(request, method)
    return response


def _headers(request: web.Request) -> dict[str, str]:
    """What a handler that describes itself finds among the headers."""
    return {"content-length": "0", **dict(request.headers.items())}
