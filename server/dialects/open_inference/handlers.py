"""`POST /v2/models/{model}/infer`: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from aiohttp import web

from runtime.cpu_pool import CpuPool
from runtime.model import ModelFacts
from runtime.outputs import Output
from runtime.store import ModelStore
from server.config import LimitConfig
from server.dialects.open_inference.inputs import InputReader, Inputs
from server.dialects.open_inference.outputs import check_wanted, elements_of, outputs_of
from server.dialects.open_inference.request import IN_PIECES, InferRequest, json_length, read_document
from server.dialects.open_inference.response import (
    HEADER_LENGTH,
    error_response,
    infer_response,
    wanted_encoding,
)
from server.http.dialect import Call, Target
from server.http.encoded_body import ENCODINGS
from server.http.exchange import Exchange
from server.http.faults import Fault
from server.operations.access_log import IMAGES

_SHORT, _FEW = 20_000, 200  # elements that are rendered, and compressed, in a millisecond


class Asked(NamedTuple):
    """What `render` needs of a request.

    Attributes:
        request: that came.
        inputs: made of it.
    """

    request: InferRequest
    inputs: Inputs


class OpenInference:
    """The dialect of the Open Inference Protocol.

    Attributes:
        encodings: of bodies.
    """

    hint = "Inferences are asked for with POST /v2/models/NAME/infer, models with GET /v2/models/NAME."
    encodings = ENCODINGS

    def __init__(self, store: ModelStore, limits: LimitConfig, cpu_pool: CpuPool) -> None:
        """Creates it.

        Args:
            store: of the models.
            limits: of sizes.
            cpu_pool: where that is parsed and rendered which takes too long on the event loop.
        """
        self.catalog = store
        self._reader = InputReader(limits)
        self._max_body = int(limits.max_body_mb * 1_000_000)
        self._cpu_pool = cpu_pool

    def paths(self) -> Iterable[str]:
        """Its addresses."""
        return ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")

    def methods(self) -> Iterable[str]:
        """POST alone."""
        return ("POST",)

    def target_of(self, request: web.Request) -> Target:
        """The model and version in the path."""
        return Target(request.match_info["model"], request.match_info.get("version"))

    def body_limit_of(self, request: web.Request) -> int:
        """Most bytes of the body."""
        return self._max_body

    async def parse(self, exchange: Exchange, body: bytearray, deadline: float) -> Call:
        """Reads tensors. Raises RequestError, InvalidInput."""
        request = exchange.request
        target = self.target_of(request)
        facts = self.catalog.model(*target).facts
        size = json_length(request.headers.get(HEADER_LENGTH), len(body))
        if size <= IN_PIECES:
            document = read_document(memoryview(body), size)
        else:
            document = await self._cpu_pool.run(partial(read_document, memoryview(body), size), deadline)
        if size <= IN_PIECES and not document.takes_long:
            asked = document.request()
        else:
            asked = await self._cpu_pool.run(document.request, deadline)
        check_wanted(facts, asked)
        inputs = self._reader.read(facts, asked.tensors)
        request[IMAGES] = len(inputs.items)
        return Call(target, inputs.items, Asked(asked, inputs))

    def render(
        self, exchange: Exchange, call: Call, answers: Sequence[Output | Exception]
    ) -> web.Response | Awaitable[web.Response]:
        """The outputs. Raises the error of the request, or of its first input that has one."""
        assert exchange.model is not None
        encoding = wanted_encoding(exchange.request.headers.get("Accept-Encoding", ""))
        work = partial(_response, exchange.model, call.asked, answers, encoding)
        if elements_of(answers) <= (_FEW if encoding else _SHORT):
            return work()
        return self._cpu_pool.run(work)

    def refuse(self, fault: Fault, request_id: str) -> web.Response:
        """`{"error": text}`."""
        return error_response(fault)


def _response(
    facts: ModelFacts, asked: Asked, answers: Sequence[Output | Exception], encoding: str
) -> web.Response:
    outputs = outputs_of(facts, asked.request, asked.inputs, answers)
    return infer_response(facts, asked.request.id, outputs, encoding)
