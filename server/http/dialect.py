"""One HTTP API: parses requests and renders answers; the request path between them is `server/http/answer.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from aiohttp import web

from runtime.inputs import Input
from runtime.outputs import Output
from server.http.exchange import Exchange
from server.http.faults import Fault


class Call(NamedTuple):
    """A request that was parsed.

    Attributes:
        model: name of the model; None for the default one.
        inputs: for the model, at least one; or the error of one that is wrong by itself.
        asked: the dialect's own options.
    """

    model: str | None
    inputs: Sequence[Input | Exception]
    asked: Any = None


class Dialect(Protocol):
    """One HTTP API.

    Attributes:
        hint: where to send what, for a client at a wrong address or with a wrong method.
        reads_body_first: whether a body that is wrong is told before a model that is unknown.
    """

    hint: str
    reads_body_first: bool

    def paths(self) -> Iterable[str]:
        """Its addresses."""
        ...

    def methods(self) -> Iterable[str]:
        """HTTP methods that it takes there."""
        ...

    def model_of(self, request: web.Request) -> str | None:
        """The model that path and query name, before the body is read; None for the default one."""
        ...

    def body_limit_of(self, request: web.Request) -> int:
        """Most bytes of the body, by the headers of a request."""
        ...

    async def parse(self, exchange: Exchange, body: bytearray, deadline: float) -> Call:
        """Takes a request apart. Raises RequestError."""
        ...

    def render(self, exchange: Exchange, call: Call, answers: Sequence[Output | Exception]) -> web.Response:
        """The response to a call: an output or an error for each of its inputs. May raise one of the errors."""
        ...

    def refuse(self, fault: Fault, request_id: str) -> web.Response:
        """The response to a request that cannot be answered."""
        ...
