"""`POST /serve?servable_identifier=PATH`: arguments in, what the model returns out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import orjson
from aiohttp import web

from batching import ItemFailed
from runtime.cpu_pool import CpuPool
from runtime.errors import InvalidInput, UnsupportedOutput
from runtime.inputs import Arguments
from runtime.on_demand import OnDemand
from runtime.outputs import Output, Value
from server.config import LimitConfig
from server.dialects.torch_serving.envelope import INVALID_JSON, bad, good, refusal
from server.dialects.torch_serving.values import UNSUPPORTED, arguments_of, json_of
from server.http.answer import add_dialect
from server.http.context import CONTEXT
from server.http.dialect import Call, Target
from server.http.exchange import Exchange
from server.http.faults import BodyTooLarge, Fault, Refusal
from server.http.json_pieces import loads_in_pieces

_PARAMETER = "servable_identifier"
_PARSE_ON_LOOP = 200_000  # bytes that are parsed in a few milliseconds; longer bodies are parsed on the CPU pool
_MOST_BRACKETS = 1_000_000  # objects and lists of a body: each takes far more memory than its text
_BOM = b"\xef\xbb\xbf"
_UNREADABLE = Fault(400, "malformed-http", "Not JSON", "The Content-Type says that the body is a form.")


class TorchServing:
    """The dialect of torch-serving."""

    hint = ""

    def __init__(self, models: OnDemand, limits: LimitConfig, cpu_pool: CpuPool) -> None:
        """Creates it.

        Args:
            models: that requests open.
            limits: of sizes.
            cpu_pool: where bodies are parsed that are too long for the event loop.
        """
        self.catalog = models
        self._max_body = int(limits.max_body_mb * 1_000_000)
        self._cpu_pool = cpu_pool

    def paths(self) -> Iterable[str]:
        """Its address."""
        return ("/serve",)

    def methods(self) -> Iterable[str]:
        """POST alone."""
        return ("POST",)

    def target_of(self, request: web.Request) -> Target:
        """The identifier, which has to be there once; an empty one is the folder itself. Raises Refusal."""
        given = request.query.getall(_PARAMETER, ())
        if not given:
            raise refusal(f"Missing required parameter `{_PARAMETER}`")
        if len(given) > 1:
            raise refusal(f"Required parameter `{_PARAMETER}` must only be passed in once")
        return Target(given[0] or ".")

    def body_limit_of(self, request: web.Request) -> int:
        """Most bytes of the body."""
        return self._max_body

    async def parse(self, exchange: Exchange, body: bytearray, deadline: float) -> Call:
        """Reads the JSON; an unknown model is reported before invalid arguments. Raises RequestError."""
        request = exchange.request
        if request.content_type == "multipart/form-data":
            raise Refusal(_UNREADABLE)
        if not body:
            raise refusal("Empty body")
        if len(body) <= _PARSE_ON_LOOP:
            given = parsed(body)
        else:
            given = await self._cpu_pool.run(partial(parsed, body), deadline)
        return Call(self.target_of(request), (given,))

    def render(self, exchange: Exchange, call: Call, answers: Sequence[Output | Exception]) -> web.Response:
        """What the model returned. Raises the error of the call."""
        (answer,) = answers
        if isinstance(answer, ItemFailed) and isinstance(answer.__cause__, UnsupportedOutput):
            raise refusal(*UNSUPPORTED.get(answer.__cause__.what, UNSUPPORTED["type"]))
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, Value):
            raise InvalidInput("This model gives scores, not values.")
        return good(json_of(answer.tree))

    def refuse(self, fault: Fault, request_id: str) -> web.Response:
        """The same envelope, or a bare 404."""
        return bad(fault)

    async def forget(self, request: web.Request) -> web.Response:
        """`DELETE /serve?servable_identifier=PATH`: the next request opens the file anew."""
        await self.catalog.forget(str(self.target_of(request).model))
        return good(None)


def parsed(body: bytes | bytearray) -> Arguments | Refusal:
    """The arguments in a body, or what is wrong with them.

    Raises:
        Refusal: it is no JSON.
        BodyTooLarge: it has too many objects and lists.
    """
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > _MOST_BRACKETS:
        text = f"The JSON has {brackets:,} objects and lists, at most {_MOST_BRACKETS:,} are allowed."
        raise BodyTooLarge(text, _MOST_BRACKETS, brackets)
    try:
        body = body.removeprefix(_BOM)
        document = orjson.loads(body) if len(body) <= _PARSE_ON_LOOP else loads_in_pieces(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise refusal(INVALID_JSON, f"parse error at {place}: {error.msg}") from None
    try:
        return Arguments(arguments_of(document))
    except Refusal as fault:
        return fault


async def healthcheck(request: web.Request) -> web.Response:
    """`GET /healthcheck`: 200 where requests are taken, else 503. Raises what `Context.check_ready` raises."""
    request.app[CONTEXT].check_ready()
    return good(None, "OK")


def add_torch_serving(app: web.Application, dialect: TorchServing, prefix: str = "") -> None:
    """Routes to all that torch-serving has, with and without a slash at the end.

    Args:
        app: gets the routes.
        dialect: that answers.
        prefix: before every path; "" or "/path".
    """
    add_dialect(app, dialect, prefix)
    for end in ("", "/"):
        app.router.add_get(f"{prefix}/healthcheck{end}", healthcheck)
        app.router.add_delete(f"{prefix}/serve{end}", dialect.forget)
