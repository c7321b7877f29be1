"""A real server in a process of its own, for benchmarks and end-to-end tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

ROOT = Path(__file__).parents[1]


class ServerProcess:
    """`python -m server` on a free port; a context manager that ends it.

    Attributes:
        url: of the server, once it is ready.
        process: the process.
    """

    def __init__(
        self,
        *options: str,
        wait: bool = True,
        module: str = "server",
        variables: Mapping[str, str] = types.MappingProxyType({}),
    ) -> None:
        """Starts the server.

        Args:
            options: of the command line.
            wait: return when it is ready, which its banner tells; otherwise at once.
            module: that is run; one with the server's banner and options.
            variables: environment variables, besides those that are there.
        """
        self._stderr: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed by __exit__
        # Ours, without what somebody has set for a server of his own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSERVE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--port", "0", *options],
            cwd=ROOT,
            env={**environment, "PYTHONUNBUFFERED": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self.url = self._wait_for_banner() if wait else ""

    def _wait_for_banner(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if address := re.search(r" on (http://\S+) \(ready in", line):
                return address[1]
        self.process.wait()
        raise RuntimeError(f"the server did not start: {self.stderr()}")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def end(self, timeout_s: float = 60.0) -> tuple[int, str]:
        """Waits for the process to end by itself.

        Returns:
            Its exit code, and what it printed after the banner.
        """
        output, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, output

    def stderr(self) -> str:
        """What it has written to its standard error so far."""
        self._stderr.seek(0)
        return self._stderr.read()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._stderr.close()
