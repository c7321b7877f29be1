"""A real server process, and the programs that the tests drive it with."""

from __future__ import annotations

import signal

import pytest

from benchmark.server_process import ServerProcess

DRAIN_S = 20


@pytest.fixture(scope="session")
def demo_server():
    """The address of `python -m server` with the digits demo; it has to end with 0 when it is told to stop."""
    with ServerProcess("--model", "models/demo") as server:
        yield server.url
        server.send(signal.SIGTERM)
        code, _ = server.end(DRAIN_S)
        assert code == 0, server.stderr()
