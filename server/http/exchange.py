"""One request and what belongs to its answer: request id, clock, deadline, common headers."""

from __future__ import annotations

import math
import re
import time

from aiohttp import web

from runtime.model import ModelFacts
from runtime.phases import PhaseClock
from server.http.connection import SERVER, Connection, new_request_id
from server.http.cors import add_cors_headers
from server.http.faults import BadRequest

_DROPPED_BYTES = 1_000_000
_EARLY_S = 0.1  # a client's timer may be a little early

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Exchange:
    """A request in flight.

    Attributes:
        request: of the client.
        id: the client's X-Request-ID if it is a plain word, else one made here.
        clock: started with the request.
        model: that answers it; None before it is found.
        timeout_ms: of this request, where its API has another one than the server; None: the server's.
    """

    __slots__ = ("clock", "id", "model", "request", "timeout_ms")

    def __init__(self, request: web.Request) -> None:
        """Begins with the request."""
        given = request.headers.get("X-Request-ID", "")
        self.request = request
        self.id = given if _REQUEST_ID.fullmatch(given) else new_request_id()
        self.clock = PhaseClock(time.monotonic)
        self.model: ModelFacts | None = None
        self.timeout_ms: float | None = None

    def deadline(self, timeout_ms: float) -> float:
        """Monotonic time at which the request expires: X-Request-Timeout-Ms, at most `timeout_ms` or its own.

        Raises:
            BadRequest: the header is not a positive number.
        """
        timeout_ms = self.timeout_ms or timeout_ms
        given = self.request.headers.get("X-Request-Timeout-Ms")
        if given is not None:
            try:
                asked_ms = float(given)
            except ValueError:
                asked_ms = math.nan
            if not 0 < asked_ms < math.inf:
                raise BadRequest("X-Request-Timeout-Ms must be a positive number of milliseconds.")
            timeout_ms = min(timeout_ms, asked_ms)
        return self.clock.started + timeout_ms / 1000

    @property
    def is_retry(self) -> bool:
        """Whether the connection's client was refused, and repeats its request after Retry-After."""
        connection = self.request.protocol
        return isinstance(connection, Connection) and connection.retry_at - _EARLY_S <= self.clock.started

    def note_retry(self, after_s: float) -> None:
        """Notes the Retry-After that the connection's client got; infinite: it has repeated its request."""
        connection = self.request.protocol
        if isinstance(connection, Connection):
            connection.retry_at = self.clock.last + after_s

    def finish(
        self, response: web.StreamResponse, origins: tuple[str, ...], draining: bool, most_requests: int
    ) -> web.StreamResponse:
        """Adds the headers of every response, and closes the connection if need be.

        Args:
            response: to the request.
            origins: whose pages may read it.
            draining: the server stops.
            most_requests: that one connection may send; 0: no limit.
        """
        headers, request = response.headers, self.request
        headers["Server"] = SERVER
        headers["X-Request-ID"] = self.id
        headers["X-Content-Type-Options"] = "nosniff"
        if origins:
            add_cors_headers(request, response, origins)
        if draining or self._leaves_much() or self._is_last(most_requests):
            response.force_close()
        return response

    def _leaves_much(self) -> bool:
        """Whether more of the body is unread than aiohttp is to read and drop, to keep the connection."""
        request = self.request
        if request.content.at_eof():
            return False
        # A client that asked whether to send the body does not send it after a refusal.
        return "Expect" in request.headers or not 0 <= (request.content_length or -1) <= _DROPPED_BYTES

    def _is_last(self, most_requests: int) -> bool:
        connection = self.request.protocol
        return bool(most_requests) and isinstance(connection, Connection) and connection.is_spent(most_requests)


EXCHANGE = web.RequestKey("exchange", Exchange)
