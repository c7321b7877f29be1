"""One HTTP API: parses requests and renders answers; the request path between them is `server/http/answer.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from aiohttp import web

from runtime.inputs import Input
from runtime.outputs import Output
from runtime.store import Catalog
from server.http.exchange import Exchange
from server.http.faults import Fault


class Target(NamedTuple):
    """What a request is for.

    Attributes:
        model: name of the model; None for the default one.
        version: of it; None for the default one.
    """

    model: str | None = None
    version: str | None = None


class Call(NamedTuple):
    """A request that was parsed.

    Attributes:
        target: whose inputs they are.
        inputs: for the model, at least one; or the error of one that is wrong by itself.
        asked: the dialect's own options.
    """

    target: Target
    inputs: Sequence[Input | Exception]
    asked: Any = None


class Dialects:
    """The dialects of one port, by the first part of their addresses: all below it is answered in their words.

    Attributes:
        main: of requests at no address of a dialect.
    """

    def __init__(self, main: Dialect) -> None:
        """Creates it with one dialect, whose addresses `add` then names."""
        self.main = main
        self._by_part: dict[str, dict[str, Dialect]] = {}

    def add(self, prefix: str, path: str, dialect: Dialect) -> None:
        """Names an address.

        Args:
            prefix: "" or "/path", under which a proxy sees the service.
            path: a pattern of aiohttp; only its first part counts, unless that is a variable.
            dialect: that is asked there.
        """
        part = _first_part(path)
        if not part.startswith("{"):
            self._by_part.setdefault(prefix, {})[part] = dialect

    def of(self, path: str) -> Dialect | None:
        """The dialect of an address; None where there is none."""
        for prefix, by_part in self._by_part.items():
            if path.startswith(f"{prefix}/") and (found := by_part.get(_first_part(path[len(prefix) :]))):
                return found
        return None


def _first_part(path: str) -> str:
    """ "v2" of "/v2/models/cats"."""
    return path[1:].partition("/")[0]


class Dialect(Protocol):
    """One HTTP API.

    It may have an attribute `encodings`: values of Content-Encoding in which it takes bodies.

    Attributes:
        hint: where to send what, for a client at a wrong address or with a wrong method.
    """

    hint: str

    @property
    def catalog(self) -> Catalog:
        """Where its models are found."""
        ...

    def paths(self) -> Iterable[str]:
        """Its addresses, as patterns of aiohttp: "/classify", "/predictions/{model}"."""
        ...

    def methods(self) -> Iterable[str]:
        """HTTP methods that it takes there; "*" for all."""
        ...

    def target_of(self, request: web.Request) -> Target:
        """What path and query name, before the body is read."""
        ...

    def body_limit_of(self, request: web.Request) -> int:
        """Most bytes of the body, by the headers of a request."""
        ...

    async def parse(self, exchange: Exchange, body: bytearray, deadline: float) -> Call:
        """Takes a request apart. Raises RequestError."""
        ...

    def render(
        self, exchange: Exchange, call: Call, answers: Sequence[Output | Exception]
    ) -> web.StreamResponse | Awaitable[web.StreamResponse]:
        """The response to a call: an output or an error for each of its inputs. May raise one of the errors.

        What takes long on the event loop is returned as an awaitable. A response that was begun while the inputs
        ran is returned, too; an error then breaks it off.
        """
        ...

    def refuse(self, fault: Fault, request_id: str) -> web.Response:
        """The response to a request that cannot be answered."""
        ...


DIALECTS = web.AppKey("dialects", Dialects)
