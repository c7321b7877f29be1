"""A real server process, and the programs that the tests drive it with."""

from __future__ import annotations

import signal

import pytest

from benchmark.harness.server import VARIABLES, ServerProcess

DRAIN_S = 20

# These tests share the cores with others: what takes long here is no overload. An option of a test overrides it.
VARIABLES["SNAPSERVE_TARGET_LATENCY_MS"] = "off"


@pytest.fixture(scope="session")
def demo_server():
    """The address of `python -m server` with the digits demo, one worker; told to stop, it has to end with 0."""
    with ServerProcess("--model", "models/demo", "--workers", "1") as server:
        yield server.url
        server.send(signal.SIGTERM)
        code, _ = server.end(DRAIN_S)
        assert code == 0, server.stderr()
