"""A real server process, and the programs that the tests drive it with."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from benchmark.server_process import ServerProcess

DRAIN_S = 20


@pytest.fixture(scope="session")
def require():
    """A function from a program's name to its path; skips where it is missing, and fails there on CI."""

    def find(program):
        path = shutil.which(program)
        if path is None:
            missing = f"{program} is not installed; scripts/system-packages.sh installs it"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
        return path

    return find


@pytest.fixture(scope="session")
def demo_server():
    """The address of `python -m server` with the digits demo; it has to end with 0 when it is told to stop."""
    with ServerProcess("--model", "models/demo") as server:
        yield server.url
        server.send(signal.SIGTERM)
        code, _ = server.end(DRAIN_S)
        assert code == 0, server.stderr()
