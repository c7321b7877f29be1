"""What the handlers of one application share, and what they read from every request."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from aiohttp import web

from batching import BatcherClosed
from runtime.store import Catalog
from server.balance import LoadMeter
from server.config import Config
from server.http.body import UploadReader
from server.http.connection import SERVER, Connection
from server.http.cors import add_cors_headers
from server.http.faults import BadRequest, Leaving, NotReady, log_if_ours, problem_of, problem_response
from server.http.forwarded import Proxies
from server.operations.access_log import AccessLog
from server.operations.metrics import Metrics

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_ID_KEY = web.RequestKey("request_id", str)


@dataclass
class Context:
    """The application's state.

    Attributes:
        load: what there was to classify of late.
        proxies: in front.
        access_log: where there is one.
        leaving: set when the server is to stop; it still takes requests, and says that it is not ready.
        draining: set when the server stops; every answer then ends its connection.
        in_flight: requests that are being answered.
        answered: requests answered since the start.
        ready_workers: how many are ready, this one included, where there are several; else None.
        to_shed: connections that are to end with their next answers, so that another worker gets them.
    """

    config: Config
    catalog: Catalog
    metrics: Metrics
    reader: UploadReader
    load: LoadMeter
    proxies: Proxies
    access_log: AccessLog | None = None
    leaving: bool = False
    draining: bool = False
    in_flight: int = 0
    answered: int = 0
    ready_workers: int | None = None
    to_shed: int = 0

    def check_ready(self) -> None:
        """Raises NotReady, Leaving or BatcherClosed unless this worker or another is there for new requests."""
        if self.draining:
            raise BatcherClosed("the server is draining")
        if self.leaving:
            raise Leaving
        if not self.catalog.ready and not self.ready_workers:
            raise NotReady("the models are loading")

    def refuse(self, request: web.Request, error: Exception) -> web.StreamResponse:
        """The problem that `error` is, counted, and logged if it is our fault."""
        problem, request_id = problem_of(error), request_id_of(request)
        log_if_ours(error, problem, request_id)
        self.count(request, problem.kind)
        return self.finish(request, problem_response(problem, request_id))

    def finish(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """Adds what every answer has: Server, X-Request-ID, CORS headers; and ends the connection if need be."""
        response.headers["Server"] = SERVER
        response.headers["X-Request-ID"] = request_id_of(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        add_cors_headers(request, response, self.config.server.cors_origin)
        # The rest of a body that was not read would be taken for the next request.
        if self.draining or not request.content.at_eof():
            response.force_close()
        return response

    def sheds(self, request: web.Request) -> bool:
        """Whether the connection of an answered request is one of those that are to end; it counts as one then."""
        connection = request.protocol
        goes_on = request.keep_alive and not (isinstance(connection, Connection) and connection.has_more)
        if not (self.to_shed and goes_on):
            return False
        self.to_shed -= 1
        return True

    def count(self, request: web.Request, outcome: str) -> None:
        """Counts a request to /classify."""
        if request.path.removeprefix(self.config.server.root_path).rstrip("/") == "/classify":
            self.metrics.count_request(outcome)


CONTEXT = web.AppKey("context", Context)


def request_id_of(request: web.BaseRequest) -> str:
    """The client's X-Request-ID if it is a plain word, else one made here; the same for the whole request."""
    known = request.get(_ID_KEY)
    if known is None:
        given = request.headers.get("X-Request-ID", "")
        known = request[_ID_KEY] = given if _REQUEST_ID.fullmatch(given) else os.urandom(8).hex()
    return known


def deadline_of(request: web.Request, started: float) -> float:
    """Monotonic time at which the request expires: X-Request-Timeout-Ms, at most `request_timeout_ms`.

    Raises:
        BadRequest: the header is not a positive number.
    """
    timeout_ms = request.app[CONTEXT].config.limits.request_timeout_ms
    given = request.headers.get("X-Request-Timeout-Ms")
    if given is not None:
        try:
            asked_ms = float(given)
        except ValueError:
            asked_ms = math.nan
        if not 0 < asked_ms < math.inf:
            raise BadRequest("X-Request-Timeout-Ms must be a positive number of milliseconds.")
        timeout_ms = min(timeout_ms, asked_ms)
    return started + timeout_ms / 1000
