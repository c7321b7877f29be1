"""How much the generator itself can do: the same load on a server that does nothing."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import uvloop

from benchmark.harness.server import Helper
from benchmark.load.crew import run_plan
from benchmark.load.plan import Plan

_CONNECTIONS = 32
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
_REQUEST_ID = re.compile(rb"\r\nX-Request-ID: ([^\r]*)\r\n")


class Ceiling(NamedTuple):
    """The generator's own limit; `cpu_us` is what it spends on a request, in microseconds of its processes."""

    requests_per_s: float
    cpu_us: float


class BareServer(asyncio.Protocol):
    """Answers every request with one body, in which only the request id differs."""

    def __init__(self, body: str) -> None:
        self._begin, self._end = (part.encode() for part in body.split("REQUEST-ID"))
        self._received = self._expected = 0
        self._request_id = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Answers when a whole request has come."""
        if not self._expected:
            # The generator writes a head at once: it comes in one piece.
            head, _, _ = data.partition(b"\r\n\r\n")
            head += b"\r\n"
            length, request_id = _LENGTH.search(head), _REQUEST_ID.search(head)
            assert length and request_id
            self._request_id = request_id[1]
            self._expected = len(head) + 2 + int(length[1])
        self._received += len(data)
        if self._received >= self._expected:
            self._received = self._expected = 0
            self._answer()

    def _answer(self) -> None:
        length = len(self._begin) + len(self._request_id) + len(self._end)
        head = b"HTTP/1.1 200 OK\r\nX-Request-ID: %b\r\nContent-Length: %d\r\n\r\n" % (self._request_id, length)
        self._transport.write(b"".join((head, self._begin, self._request_id, self._end)))


async def _serve(body: str) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: BareServer(body), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def bare_server(body: str) -> Iterator[str]:
    """The address of a bare server in a process of its own; `body` holds REQUEST-ID once."""
    with Helper("benchmark.load.ceiling", body) as helper:
        yield helper.line()


def ceiling(plan: Plan, processes: int, seconds: float) -> Ceiling:
    """The ceiling of this generator, with the plan's largest image; every answer is verified.

    Args:
        plan: its questions and rules.
        processes: of the generator.
        seconds: of the load, which is a closed loop: always the next request.

    Raises:
        RuntimeError: an answer was not right, so the figure would mean nothing.
    """
    largest = max(plan.questions, key=lambda question: len(question.image))
    document = {"request_id": "REQUEST-ID", "predictions": largest.predictions(plan.rules)}
    with bare_server(json.dumps(document)) as url:
        own = Plan(url, (largest,), plan.rules, None, seconds, _CONNECTIONS, min(0.5, seconds / 4), name="ceiling")
        tally = run_plan(own, processes)
    if tally.ok < tally.sent:
        raise RuntimeError(f"the bare server gave wrong answers: {tally.to_json()}")
    return Ceiling(round(tally.answered_per_s, 1), round(tally.cpu_s / tally.sent * 1e6, 1))


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
