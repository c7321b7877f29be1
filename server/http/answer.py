"""The path of a request, the same for every dialect: admit, read, parse, infer, render."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

from aiohttp import HttpVersion11, web

from runtime.errors import Overloaded
from runtime.inputs import Input
from runtime.outputs import Output
from runtime.phases import PhaseClock
from runtime.stay import AnyDeployment
from server.http.connection import check_place
from server.http.context import CONTEXT, Context
from server.http.cors import preflight
from server.http.dialect import DIALECTS, Dialect, Target
from server.http.encoded_body import decoded
from server.http.exchange import EXCHANGE, Exchange
from server.http.faults import fault_of, log_if_internal
from server.operations.access_log import MODEL, STARTED

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def answer(dialect: Dialect, request: web.Request) -> web.StreamResponse:
    """Answers one request to a model."""
    context, exchange = request.app[CONTEXT], request[EXCHANGE]
    deadline = exchange.deadline(context.config.limits.request_timeout_ms)
    _admit(context, dialect, exchange, deadline)
    await dialect.catalog.until_workers(*dialect.target_of(request), deadline)
    body = await _read(context, dialect, request, deadline)
    try:
        exchange.clock.mark("read")
        call = await dialect.parse(exchange, body, deadline)
        _check_key(context, dialect, request, call.target)
        async with dialect.catalog.use(*call.target, deadline) as deployment:
            exchange.model = deployment.model.facts
            request[MODEL] = exchange.model.name
            start_by = deployment.admit(len(call.inputs), deadline, exchange.is_retry)
            exchange.note_retry(math.inf)
            answers = await infer_all(deployment, call.inputs, exchange.clock, (deadline, start_by))
        response = dialect.render(exchange, call, answers)
        if not isinstance(response, web.StreamResponse):
            response = await response
    finally:
        context.bodies.memory.give_back(len(body))
    response.headers["Server-Timing"] = exchange.clock.server_timing()
    return response


def _admit(context: Context, dialect: Dialect, exchange: Exchange, deadline: float) -> None:
    """Refuses what needs no body to be refused: an unknown model, an overloaded one, a body that is too large."""
    request = exchange.request
    check_place(request)
    target = dialect.target_of(request)
    _check_key(context, dialect, request, target)
    if (deployment := dialect.catalog.peek(*target)) is not None:
        deployment.admit(1, deadline, exchange.is_retry)
    encodings: Collection[str] = getattr(dialect, "encodings", ())
    context.bodies.check_announced(request, dialect.body_limit_of(request), encodings)


def _check_key(context: Context, dialect: Dialect, request: web.Request, target: Target) -> None:
    if context.check_key is not None and dialect.catalog is context.store:
        context.check_key(*target, request.headers.get("Authorization", ""))


async def _read(context: Context, dialect: Dialect, request: web.Request, deadline: float) -> bytearray:
    limit = dialect.body_limit_of(request)
    body = await context.bodies.read(request, limit, deadline)
    encoding = request.headers.get("Content-Encoding")
    if encoding is None:
        return body
    return await decoded(body, encoding, limit, context.bodies.memory, context.cpu_pool, deadline)


async def infer_all(
    deployment: AnyDeployment, inputs: Sequence[Input | Exception], clock: PhaseClock, times: tuple[float, float]
) -> Sequence[Output | Exception]:
    """Runs all inputs of a request.

    Args:
        deployment: of its model.
        inputs: at least one, or the error of one.
        clock: gets the phases of a single input.
        times: the deadline, and when the last input has to begin.

    Returns:
        An output or an error for each.
    """
    if len(inputs) == 1:
        return (await _infer_one(deployment, inputs[0], clock, times),)
    return await asyncio.gather(*(_infer_one(deployment, each, clock.fork(), times) for each in inputs))


async def _infer_one(
    deployment: AnyDeployment, given: Input | Exception, clock: PhaseClock, times: tuple[float, float]
) -> Output | Exception:
    if isinstance(given, Exception):
        return given
    try:
        return await deployment.infer(given, clock, *times)
    except Exception as error:
        return error


async def expect_continue(dialect: Dialect, request: web.Request) -> web.StreamResponse | None:
    """Answers `Expect: 100-continue`: refuses before the upload what the headers alone rule out."""
    context, exchange = request.app[CONTEXT], Exchange(request)
    if request.version < HttpVersion11:
        return None  # RFC 9110, 10.1.1: the client would not understand
    try:
        if request.headers["Expect"].lower() != "100-continue":
            raise web.HTTPExpectationFailed
        _admit(context, dialect, exchange, exchange.deadline(context.config.limits.request_timeout_ms))
    except Exception as error:
        return refuse(context, exchange, error)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # aiohttp takes anything written for the beginning of the response
    return None


def add_dialect(app: web.Application, dialect: Dialect, prefix: str = "") -> None:
    """Routes requests to the dialect's addresses, with and without a slash at their end."""
    handler, expect = partial(answer, dialect), partial(expect_continue, dialect)
    for path in dialect.paths():
        app[DIALECTS].add(prefix, path, dialect)
        for method in dialect.methods():
            for end in ("", "/"):
                app.router.add_route(method, f"{prefix}{path}{end}", handler, expect_handler=expect)


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every request: counts it, and turns errors into responses."""
    context = request.app[CONTEXT]
    exchange = request[EXCHANGE] = Exchange(request)
    context.in_flight += 1
    if context.access_log:
        request[STARTED] = time.monotonic()
    try:
        origins = context.config.server.cors_origin
        response = (preflight(request, origins) if origins else None) or await handler(request)
        _count(context, request, "ok" if response.status < 400 else "all-failed")
        return _finish(context, exchange, response)
    except asyncio.CancelledError:
        _count(context, request, "client-left")
        if context.access_log:
            context.access_log.log_left(request, exchange.id)
        raise
    except Exception as error:
        return refuse(context, exchange, error)
    finally:
        context.in_flight -= 1
        context.answered += 1


def refuse(context: Context, exchange: Exchange, error: Exception) -> web.StreamResponse:
    """The response to an error, counted, and logged if it is internal."""
    dialect = _dialect_of(exchange.request)
    fault = fault_of(error, dialect.hint)
    if isinstance(error, Overloaded):
        exchange.note_retry(error.retry_after_s)
    log_if_internal(error, fault, exchange.id)
    _count(context, exchange.request, fault.kind)
    return _finish(context, exchange, dialect.refuse(fault, exchange.id))


def _finish(context: Context, exchange: Exchange, response: web.StreamResponse) -> web.StreamResponse:
    server = context.config.server
    return exchange.finish(response, server.cors_origin, context.draining, server.keepalive_requests)


def _count(context: Context, request: web.Request, outcome: str) -> None:
    """Counts a request to a dialect."""
    if request.app[DIALECTS].of(request.path):
        context.metrics.count_request(outcome)


def _dialect_of(request: web.Request) -> Dialect:
    dialects = request.app[DIALECTS]
    return dialects.of(request.path) or dialects.main
