"""TorchServe's inference API: `/predictions/MODEL` and its other spellings, `/ping`, the description."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from aiohttp import HttpVersion11, web

from runtime.archive_settings import Registered
from runtime.errors import UnknownModel
from runtime.inputs import Fields, Image
from runtime.model import IMAGE_CLASSIFIER
from runtime.outputs import Output, Reply
from runtime.store import ModelStore
from runtime.version import AnyModel
from server.config import TorchServeConfig
from server.control import Control
from server.dialects.torchserve.fields import JSON, Given, headers_for_handler, read_fields
from server.dialects.torchserve.health import Health
from server.dialects.torchserve.image import image_of, is_for_handler, is_image
from server.dialects.torchserve.keys import INFERENCE, KeyFile
from server.dialects.torchserve.metrics import MetricsApi
from server.dialects.torchserve.openapi import API_VERSION, inference_api, model_api
from server.dialects.torchserve.parts import PartReceiver, PartsResponse
from server.dialects.torchserve.replies import (
    error_response,
    in_words,
    json_response,
    not_allowed,
    not_found,
    prediction,
    refusal,
    status_response,
    too_long,
    wrong_key,
)
from server.dialects.torchserve.route import PREDICTIONS, Place, Route, route_of
from server.http.answer import answer, expect_continue
from server.http.context import Context
from server.http.dialect import Call, Target
from server.http.exchange import EXCHANGE, Exchange
from server.http.faults import Fault
from server.operations.torchserve_metrics import TorchServeMetrics

log = logging.getLogger("snapserve")

_ANY_TIME_MS = 86_400_000.0
# Bytes that take a few milliseconds; longer bodies are parsed on the CPU pool.
_JSON_ON_LOOP, _SCANNED_ON_LOOP = 200_000, 1_000_000
_OPEN = (Place.ROOT, Place.DESCRIPTION, Place.METRICS)  # that need no key
_PATHS = ("/predictions", "/explanations", "/invocations", "/models", "/v1", "/v2")  # whose requests are counted
ROUTE = web.RequestKey("torchserve-route", Route)


class TorchServe:
    """The dialect of TorchServe's inference port."""

    hint = ""

    def __init__(
        self,
        context: Context,
        control: Control,
        metrics: TorchServeMetrics,
        keys: KeyFile | None,
        page: MetricsApi,
        archive_of: Callable[[AnyModel], Registered | None],
    ) -> None:
        """Creates it.

        Args:
            context: of all applications.
            control: has the archives that were loaded at the start.
            metrics: of its requests.
            keys: that requests must have; None: they need none.
            page: that answers `/metrics`, where the port has the management API, too.
            archive_of: how the archive of a model is run; None of another model.
        """
        self.catalog: ModelStore = context.store
        self._given: TorchServeConfig = context.config.torchserve
        self._control = control
        self._cpu_pool = context.cpu_pool
        self._health = Health(context, control)
        self._keys = keys
        self._metrics = metrics
        self._page = page
        self._archive_of = archive_of

    def paths(self) -> Iterable[str]:
        """Addresses of models."""
        return _PATHS

    def methods(self) -> Iterable[str]:
        """Every one."""
        return ("*",)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers any request of the port. Raises what `around` tells the client."""
        route = self._enter(request)
        if route.place in PREDICTIONS:
            return await self._predict(request, route)
        return self._other(request, route)

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answers `Expect: 100-continue` before the body is sent."""
        return await expect_continue(self, request)

    def _enter(self, request: web.Request) -> Route:
        """The route of a request that may go on. Raises Refusal."""
        route = route_of(request.rel_url.raw_path)
        if route.place not in _OPEN:
            self._check_key(request)
        if route.place is Place.INVOCATIONS:
            route = route._replace(model=request.query.get("model_name") or self._only_model())
        request[ROUTE] = route
        return route

    def _check_key(self, request: web.Request) -> None:
        authorization = request.headers.get("Authorization", "")
        if self._keys and not self._keys.is_allowed(INFERENCE, authorization):
            raise wrong_key()

    def _only_model(self) -> str:
        """The only archive that was loaded at the start. Raises Refusal."""
        added = self._control.committed.added
        names = {each.name for each in added if each.archive and each.archive.is_loaded_at_start}
        if len(names) != 1:
            raise refusal(400, "bad-request", "BadRequestException", "Parameter model_name is required.")
        return names.pop()

    def target_of(self, request: web.Request) -> Target:
        """The model that the path names. Raises Refusal."""
        route = request.get(ROUTE) or self._enter(request)
        if route.place not in PREDICTIONS:
            raise web.HTTPExpectationFailed  # asked by `expect` alone
        self._check_known(route)
        return Target(route.model, route.version)

    def _check_known(self, route: Route) -> None:
        """In the order of TorchServe, first the model, then the version. Raises Refusal, ModelLoading."""
        try:
            self.catalog.model(route.model)
        except UnknownModel:
            if not self._control.has_started and route.model in dict(self._control.committed):
                raise self.catalog.loading() from None
            message = f"Model not found: {route.model}"
            raise refusal(404, "unknown-model", "ModelNotFoundException", message) from None
        try:
            self.catalog.model(route.model, route.version)
        except UnknownModel:
            message = f"Model version: {route.version} does not exist for model: {route.model}"
            raise refusal(404, "unknown-model", "ModelVersionNotFoundException", message) from None

    def body_limit_of(self, request: web.Request) -> int:
        """Most bytes of the body."""
        return self._given.max_request_size

    async def _predict(self, request: web.Request, route: Route) -> web.StreamResponse:
        self._check_known(route)
        if request.method == "OPTIONS":
            return json_response(model_api(route.model))
        self._metrics.count_prediction(route.model, route.version)
        exchange = request[EXCHANGE]
        exchange.timeout_ms = _ANY_TIME_MS  # until the archive is there, and says what its clients wait
        try:
            target = Target(route.model, route.version)
            await self.catalog.until_workers(*target, exchange.deadline(_ANY_TIME_MS))
            exchange.timeout_ms = self._timeout_ms(route)
            return await answer(self, request)
        except Exception as error:
            words = in_words(error, route)
            if words is error:
                raise
            raise words from error

    def _timeout_ms(self, route: Route) -> float | None:
        """What a client of an archive waits at most: as it says, else as long as the client likes.

        A response in parts may take long, and so may a queue of long batches, whose own time is limited.
        """
        archive = self._archive_of(self.catalog.model(route.model, route.version))
        return archive and float(archive.config.client_timeout_ms or _ANY_TIME_MS)

    async def parse(self, exchange: Exchange, body: bytearray, deadline: float) -> Call:
        """An image for a model that gives scores, else fields for a handler. Raises RequestError."""
        request, route = exchange.request, exchange.request[ROUTE]
        target = Target(route.model, route.version)
        model = self.catalog.model(*target)
        is_classifier = model.facts.kind == IMAGE_CLASSIFIER
        has_handler = getattr(model, "has_handler", not is_classifier)
        if route.explains and not has_handler:
            message = "This model runs without a handler, so it has no explanations."
            raise refusal(501, "not-implemented", "UnsupportedOperationException", message)
        takes_image = is_classifier and not route.explains
        if takes_image and is_image(body):
            return Call(target, (Image(body),))
        given = await self._read(request, body, deadline)
        if takes_image and not (has_handler and is_for_handler(given.values)):
            return Call(target, (image_of(given.values),))
        fields, receiver = self._fields(exchange, route, given)
        return Call(target, (fields,), receiver)

    async def _read(self, request: web.Request, body: bytearray, deadline: float) -> Given:
        query = request.query.items() if request[ROUTE].takes_query else ()
        kind = request.headers.get("Content-Type", "")
        read = partial(read_fields, body, kind, self._given.decode_input_request, query)
        most = _JSON_ON_LOOP if JSON in kind else _SCANNED_ON_LOOP
        return read() if len(body) <= most else await self._cpu_pool.run(read, deadline)

    def _fields(self, exchange: Exchange, route: Route, given: Given) -> tuple[Fields, PartReceiver | None]:
        request = exchange.request
        can_stream = request.version >= HttpVersion11 and request.method != "HEAD"
        receiver = PartReceiver(exchange, self._given.max_response_size) if can_stream else None
        action = "explain" if route.explains else "predict"
        headers = headers_for_handler(request, route, given)
        return Fields(given.values, headers, action, receiver, exchange.id), receiver

    def render(self, exchange: Exchange, call: Call, answers: Sequence[Output | Exception]) -> web.StreamResponse:
        """What the model answers. Raises the error of the call, unless its response was begun."""
        given = self._within_limit(answers[0], call.asked)
        begun: PartsResponse | None = call.asked.response if call.asked else None
        if not isinstance(given, Exception):
            route = exchange.request[ROUTE]
            self._metrics.observe(route.model, route.version, exchange.clock.seconds)
        if begun is None:
            if isinstance(given, Exception):
                raise given
            return prediction(given)
        if isinstance(given, Reply):
            begun.add(given.body)
        else:
            log.warning("request %s: its response was broken off: %s", exchange.id, given)
            begun.break_off()
        return begun

    def _within_limit(self, given: Output | Exception, receiver: PartReceiver | None) -> Output | Exception:
        """What a handler has answered, or the error of an answer, or of a part of it, that is too long."""
        if isinstance(given, Exception):
            return given
        actual, limit = receiver.too_long if receiver else 0, self._given.max_response_size
        if isinstance(given, Reply):
            actual = max(actual, len(given.body))
        return too_long(actual, limit) if actual > limit else given

    def refuse(self, fault: Fault, request_id: str) -> web.Response:
        """TorchServe's error."""
        return error_response(fault)

    def _other(self, request: web.Request, route: Route) -> web.Response:
        """What is no prediction. Raises Refusal."""
        match route.place:
            case Place.PING:
                good = self._health.is_good()
                return status_response("Healthy" if good else "Unhealthy", 200 if good else 500)
            case Place.DESCRIPTION:
                return json_response(inference_api())
            case Place.ROOT if request.method == "OPTIONS":
                return json_response(inference_api())
            case Place.ROOT:
                raise not_allowed()
            case Place.METRICS if self._given.inference == self._given.management:
                return self._page.show(request)
            case Place.WORKFLOW:
                message = f"Workflow not found: {route.model}"
                raise refusal(404, "unknown-model", "WorkflowNotFoundException", message)
        if self._given.ts_open_inference_protocol:
            return self._protocol(route)
        raise not_found()

    def _protocol(self, route: Route) -> web.Response:
        """What TorchServe has of the Open Inference Protocol beside predictions. Raises Refusal."""
        match route.place:
            case Place.SERVER:
                extensions = ["kserve", "kubeflow"]
                return json_response({"name": "Torchserve", "version": API_VERSION, "extenstion": extensions})
            case Place.LIVE:
                return json_response({"live": True})
            case Place.READY:
                good = self._health.is_good()
                return json_response({"ready": good}, 200 if good else 503)
            case Place.VERSIONED:
                return json_response({"error": "Model versioning is not yet supported."}, 501)
        raise not_found()
