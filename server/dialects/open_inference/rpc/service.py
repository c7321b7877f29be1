"""The calls of the protocol over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import grpc

from runtime.phases import PhaseClock
from server.dialects.open_inference.inputs import InputReader, Inputs
from server.dialects.open_inference.metadata import index_of
from server.dialects.open_inference.outputs import check_wanted, elements_of, outputs_of
from server.dialects.open_inference.pages import check_model_ready, load_model, refuse_unload, versions_of
from server.dialects.open_inference.request import InferRequest
from server.dialects.open_inference.rpc.generated import open_inference_pb2 as pb
from server.dialects.open_inference.rpc.generated.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from server.dialects.open_inference.rpc.messages import (
    config_message,
    index_message,
    model_message,
    request_of,
    response_of,
    server_message,
    statistics_message,
)
from server.dialects.open_inference.rpc.repository import ManagedRepository
from server.dialects.open_inference.rpc.stream import Stream
from server.dialects.open_inference.statistics import statistics_of
from server.http.answer import infer_all
from server.http.connection import new_request_id
from server.http.context import Context
from server.http.faults import BodyTooLarge, Fault, fault_of, log_if_internal

Answer = TypeVar("Answer")
Call = Any  # grpc.aio.ServicerContext

_ON_LOOP = 200_000  # bytes of a message that are taken apart, and elements of an answer, in a few milliseconds
_STATUSES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class InferenceService(GRPCInferenceServiceServicer):
    """Answers calls, on the event loop of the server."""

    def __init__(self, context: Context) -> None:
        """Creates it; context: of the process."""
        limits, management = context.config.limits, context.config.management
        self._context = context
        self._managed = ManagedRepository(management) if management.is_on else None
        self._reader = InputReader(limits)
        self._timeout_s = limits.request_timeout_ms / 1000
        self._streams: set[Stream[Any, Any]] = set()

    async def ServerLive(self, request: pb.ServerLiveRequest, call: Call) -> pb.ServerLiveResponse:
        """The process answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, call: Call) -> pb.ServerReadyResponse:
        """Whether new requests would be answered."""
        return pb.ServerReadyResponse(ready=_holds(self._context.check_ready))

    async def ModelReady(self, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
        """Whether requests to a model would be taken."""
        version = request.version or None
        return pb.ModelReadyResponse(
            ready=_holds(partial(check_model_ready, self._context, request.name, version))
        )

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, call: Call) -> pb.ServerMetadataResponse:
        """About the server."""
        return server_message()

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
        """About a model."""

        async def work() -> pb.ModelMetadataResponse:
            store = self._context.store
            facts = store.model(request.name, request.version or None).facts
            return model_message(facts, versions_of(store, facts.name))

        return await self._answered(call, work)

    async def ModelConfig(self, request: pb.ModelConfigRequest, call: Call) -> pb.ModelConfigResponse:
        """The configuration of a model."""

        async def work() -> pb.ModelConfigResponse:
            return config_message(self._context.store.model(request.name, request.version or None).facts)

        return await self._answered(call, work)

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, call: Call) -> pb.ModelStatisticsResponse:
        """How often a model ran; all of them where none is named."""

        async def work() -> pb.ModelStatisticsResponse:
            store, version = self._context.store, request.version or None
            facts = store.model(request.name, version).facts if request.name else None
            return statistics_message(statistics_of(self._context, facts, version))

        return await self._answered(call, work)

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, call: Call) -> pb.RepositoryIndexResponse:
        """All versions."""
        return index_message(index_of(self._context.store), request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, call: Call
    ) -> pb.RepositoryModelLoadResponse:
        """Loads a model that is known, as a request to it would; with the management's token, adds one."""

        async def work() -> pb.RepositoryModelLoadResponse:
            if not await self._managed_change(call, request.model_name, "load"):
                await load_model(self._context, request.model_name, _authorization(call))
            return pb.RepositoryModelLoadResponse()

        return await self._answered(call, work)

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, call: Call
    ) -> pb.RepositoryModelUnloadResponse:
        """Removes a model, with the management's token; is refused without one."""

        async def work() -> pb.RepositoryModelUnloadResponse:
            if not await self._managed_change(call, request.model_name, "unload"):
                refuse_unload(self._context.store, request.model_name)
            return pb.RepositoryModelUnloadResponse()

        return await self._answered(call, work)

    async def _managed_change(self, call: Call, name: str, action: str) -> bool:
        """Changes models where the call has a token; False where it has none, or there is no management."""
        authorization = _authorization(call)
        if self._managed is None or not authorization:
            return False
        await self._managed.change(name, action, authorization, call.time_remaining())
        return True

    async def ModelInfer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """One inference."""
        return await self._answered(call, partial(self._infer, request, call))

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], call: Call
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Inferences, answered in order; one that fails has its error in its response, and the stream goes on."""
        stream = Stream(requests, lambda request: self._streamed(request, call))
        self._streams.add(stream)
        try:
            async for answer in stream.answers():
                yield answer
        finally:
            self._streams.discard(stream)

    async def refuse(self, call: Call, error: Exception) -> None:
        """Ends a call with an error."""
        await self._answered(call, partial(_raise, error))

    def stop_streams(self) -> None:
        """Reads no further request of a stream: each ends with the answer to its last one."""
        for each in self._streams:
            each.stop()

    async def _streamed(
        self, request: pb.ModelInferRequest | BodyTooLarge, call: Call
    ) -> pb.ModelStreamInferResponse:
        try:
            response = await self._counted(partial(self._infer, request, call))
        except _Failed as failed:
            # The identifier tells the client whose error it is.
            unanswered = pb.ModelInferResponse(id=getattr(request, "id", ""))
            return pb.ModelStreamInferResponse(error_message=failed.text, infer_response=unanswered)
        return pb.ModelStreamInferResponse(infer_response=response)

    async def _infer(self, message: pb.ModelInferRequest | BodyTooLarge, call: Call) -> pb.ModelInferResponse:
        if isinstance(message, BodyTooLarge):  # in its place, from `BoundedMessages`
            raise message
        context, clock, deadline = self._context, PhaseClock(time.monotonic), self._deadline(call)
        target, size = (message.model_name, message.model_version or None), message.ByteSize()
        if context.check_key is not None:
            context.check_key(*target, _authorization(call))
        if (deployment := context.store.peek(*target)) is not None:
            deployment.admit(1, deadline)
        await context.store.until_workers(*target, deadline)
        context.bodies.memory.take(size)
        try:
            clock.mark("read")
            request, inputs = await self._parsed(message, target, size, deadline)
            async with context.store.use(*target, deadline) as deployment:
                facts = deployment.model.facts
                start_by = deployment.admit(len(inputs.items), deadline)
                answers = await infer_all(deployment, inputs.items, clock, (deadline, start_by))

            def render() -> pb.ModelInferResponse:
                return response_of(facts, request.id, outputs_of(facts, request, inputs, answers))

            return render() if elements_of(answers) <= _ON_LOOP else await context.cpu_pool.run(render, deadline)
        finally:
            context.bodies.memory.give_back(size)

    async def _parsed(
        self, message: pb.ModelInferRequest, target: tuple[str, str | None], size: int, deadline: float
    ) -> tuple[InferRequest, Inputs]:
        facts = self._context.store.model(*target).facts

        def parse() -> tuple[InferRequest, Inputs]:
            request = request_of(message)
            check_wanted(facts, request)
            return request, self._reader.read(facts, request.tensors)

        return parse() if size <= _ON_LOOP else await self._context.cpu_pool.run(parse, deadline)

    async def _answered(self, call: Call, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `work` gives; its error ends the call with a status."""
        try:
            return await self._counted(work)
        except _Failed as failed:
            await _abort(call, failed)

    async def _counted(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Counts a request like one over HTTP. Raises _Failed."""
        context = self._context
        context.in_flight += 1
        try:
            answer = await work()
            context.metrics.count_request("ok")
            return answer
        except asyncio.CancelledError:
            context.metrics.count_request("client-left")
            raise
        except Exception as error:
            fault, request_id = fault_of(error), new_request_id()
            log_if_internal(error, fault, request_id)
            context.metrics.count_request(fault.kind)
            raise _Failed(fault, request_id) from None
        finally:
            context.in_flight -= 1
            context.answered += 1

    def _deadline(self, call: Call) -> float:
        """Monotonic time at which the request expires: the client's deadline, at most the server's time limit."""
        left = call.time_remaining()
        return time.monotonic() + (self._timeout_s if left is None else min(left, self._timeout_s))


class _Failed(Exception):
    """A request that was not answered."""

    def __init__(self, fault: Fault, request_id: str) -> None:
        hint = fault.extras.get("hint")
        self.fault = fault
        self.text = f"{fault.detail} {hint}" if hint else fault.detail or fault.title
        self.request_id = request_id


async def _abort(call: Call, failed: _Failed) -> NoReturn:
    status = _STATUSES.get(failed.fault.status, grpc.StatusCode.INVALID_ARGUMENT)
    trailer = {"x-request-id": failed.request_id}
    if "Retry-After" in failed.fault.headers:
        trailer["retry-after"] = failed.fault.headers["Retry-After"]
    await call.abort(status, failed.text, tuple(trailer.items()))
    raise AssertionError("abort raises")


async def _raise(error: Exception) -> NoReturn:
    raise error


def _authorization(call: Call) -> str:
    """The metadata of that name; "" without it."""
    return next((str(value) for name, value in call.invocation_metadata() or () if name == "authorization"), "")


def _holds(check: Callable[[], Any]) -> bool:
    """Whether a check does not raise."""
    try:
        check()
    except Exception as error:
        if fault_of(error).status == 500:
            raise
        return False
    return True
