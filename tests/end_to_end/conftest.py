"""A real server process, and the programs that the tests drive it with."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

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
def demo_server(tmp_path_factory):
    """The address of `python -m server` with the digits demo; it has to end with 0 when it is told to stop."""
    log = tmp_path_factory.mktemp("demo_server") / "stderr"
    command = [sys.executable, "-m", "server", "--port", "0", "--model", "models/demo"]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            banner = process.stdout.readline()
            address = re.search(r" on (http://127\.0\.0\.1:\d+) \(ready in", banner)
            assert address, f"no banner but {banner!r}; {log.read_text()}"
            yield address[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(DRAIN_S) == 0, log.read_text()
        finally:
            process.kill()


def _environment():
    """Ours, without options that somebody has set for a server of his own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SNAPSERVE_")}
