"""Requests to the management."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from runtime.added_model import AddedModel
from runtime.errors import ModelRefused
from runtime.folder import StoreFolder
from runtime.model_set import ModelSet
from runtime.record import RecordError
from server.config import LimitConfig
from server.http.body import BodyReader
from server.http.exchange import EXCHANGE, Exchange
from server.http.faults import BadRequest, NoModelStore, Unauthorized, fault_of, log_if_internal
from server.http.problem import problem_response
from server.management.changer import Changer, Operation
from server.management.documents import Status, all_models, one_model
from server.management.orders import as_it_says, read_addition, read_processes, read_shadow
from server.management.repository import PREFIX, Repository, error_response
from server.management.token import Token
from server.model_options import NO_STORE

log = logging.getLogger("snapserve")

MAX_BODY = 65_536  # bytes
_HINT = "Models are managed at /models, with GET, PUT, POST and DELETE: docs/models.md"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Management:
    """Handles requests, each with the token."""

    def __init__(self, changes: Changer, folder: StoreFolder | None, token: Token, limits: LimitConfig) -> None:
        """Creates it.

        Args:
            changes: of all workers.
            folder: below which models are added; None: nowhere.
            token: that every request must have.
            limits: of the time and memory of bodies.
        """
        self._changes = changes
        self._folder = folder
        self._token = token
        self._bodies = BodyReader(limits)
        self._timeout_s = limits.request_timeout_ms / 1000

    def app(self) -> web.Application:
        """An application with all addresses, with and without a slash at their end."""
        app = web.Application(middlewares=[self._around], client_max_size=0)
        model, version = "/models/{name}", "/models/{name}/{version}"
        for end in ("", "/"):
            router = app.router
            router.add_get(f"/models{end}", self._list)
            router.add_get(f"{model}{end}", self._show)
            router.add_put(f"{model}/shadow{end}", self._begin_shadow)
            router.add_delete(f"{model}/shadow{end}", self._end_shadow)
            router.add_put(f"{version}{end}", self._add)
            router.add_delete(f"{version}{end}", self._remove)
            router.add_post(f"{version}/default{end}", self._set_default)
            router.add_post(f"{version}/scale{end}", self._scale)
        Repository(self._changes, self._folder, self._body).add_to(app.router)
        return app

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        exchange = request[EXCHANGE] = Exchange(request)
        try:
            if not self._token.is_in(request.headers.get("Authorization", "")):
                raise Unauthorized("Models are managed with the token of this server.")
            response = await handler(request)
        except Exception as error:
            response = self._refuse(exchange, error)
        if request.method != "GET":
            log.info("management: %s %s: %d", request.method, request.raw_path, response.status)
        return exchange.finish(response, (), False, 0)

    def _refuse(self, exchange: Exchange, error: Exception) -> web.StreamResponse:
        if isinstance(error, ModelRefused) and self._folder:
            error = ModelRefused(str(error).replace(f"{self._folder.path}/", ""))
        fault = fault_of(error, _HINT)
        log_if_internal(error, fault, exchange.id)
        is_protocol = exchange.request.path.startswith(f"{PREFIX}/")
        return error_response(fault) if is_protocol else problem_response(fault, exchange.id)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response(all_models(self._changes.committed, await self._changes.show()))

    async def _show(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self._changes.committed.default_of(name)
        status = await self._changes.show()
        return web.json_response(one_model(self._changes.committed, name, status))

    async def _add(self, request: web.Request) -> web.Response:
        model, is_default, wishes = read_addition(await self._body(request), *_key(request))
        folder = self._check_paths(model)
        if model.archive:
            model = await asyncio.to_thread(as_it_says, model, wishes, folder)

        def add(models: ModelSet) -> ModelSet:
            added = models.with_model(model)
            return added.with_default(*model.key) if is_default else added

        return await self._change(request, add, 201)

    def _check_paths(self, model: AddedModel) -> StoreFolder:
        """Refuses at once what no worker would find. Raises UnknownModel, NoModelStore."""
        if self._folder is None:
            raise NoModelStore(NO_STORE)
        for each in (model.path, model.labels, model.golden.folder if model.golden else ""):
            if each:
                self._folder.resolve(each)
        return self._folder

    async def _remove(self, request: web.Request) -> web.Response:
        return await self._change(request, lambda models: models.without(*_key(request)))

    async def _set_default(self, request: web.Request) -> web.Response:
        return await self._change(request, lambda models: models.with_default(*_key(request)))

    async def _scale(self, request: web.Request) -> web.Response:
        processes = read_processes(await self._body(request))
        return await self._change(request, lambda models: models.scaled(*_key(request), processes))

    async def _begin_shadow(self, request: web.Request) -> web.Response:
        name, shadow = request.match_info["name"], read_shadow(await self._body(request))
        return await self._change(request, lambda models: models.with_shadow(name, shadow))

    async def _end_shadow(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return await self._change(request, lambda models: models.without_shadow(name))

    async def _change(self, request: web.Request, operation: Operation, status: int = 200) -> web.Response:
        try:
            models = await self._changes.change(operation)
        except RecordError as error:
            raise BadRequest(f"{error}.") from None
        untold: Status = {}
        return web.json_response(one_model(models, request.match_info["name"], untold), status=status)

    async def _body(self, request: web.Request) -> bytes:
        self._bodies.check_announced(request, MAX_BODY)
        body = await self._bodies.read(request, MAX_BODY, time.monotonic() + self._timeout_s)
        self._bodies.memory.give_back(len(body))
        return bytes(body)


def _key(request: web.Request) -> tuple[str, str]:
    return request.match_info["name"], request.match_info["version"]
