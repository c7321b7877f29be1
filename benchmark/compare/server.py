"""A contestant's server at work: started, and ended with all of its processes."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from benchmark.compare.answer import ask
from benchmark.compare.contestant import Contestant
from benchmark.compare.process_tree import ProcessTree

_START_S = 180.0
_STOP_S = 10.0


class ServerFailed(Exception):
    """A server that did not start. The message is one line."""


class Server:
    """A context manager around the processes of one contestant.

    Attributes:
        contestant: who it is.
        url: of the server.
        tree: its processes.
        start_s: seconds until its first answer.
    """

    def __init__(self, contestant: Contestant, picture: Path) -> None:
        """Starts it and waits until it answers `picture`. Raises ServerFailed where it does not."""
        self.contestant = contestant
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        began = time.monotonic()
        self._process = subprocess.Popen(
            contestant.words(port),
            cwd=contestant.checkout,
            env=contestant.surroundings(),
            stdout=self._output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.tree = ProcessTree(self._process.pid)
        try:
            self._wait(picture)
        except BaseException:
            self.close()
            raise
        self.start_s = time.monotonic() - began

    def _wait(self, picture: Path) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerFailed(f"ended with {self._process.returncode}: {self._last_line()}")
            try:
                ask(self.url, picture)
                return
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise ServerFailed(f"answered {error.code}") from None
            except OSError:  # it does not listen yet
                pass
            time.sleep(0.2)
        raise ServerFailed(f"gave no answer within {_START_S:.0f} s: {self._last_line()}")

    def _last_line(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "without a word"

    def close(self) -> None:
        """Ends all of its processes, those that do not obey by force."""
        self.tree.go_on()
        processes = self.tree.processes()
        if self._process.poll() is None:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(processes, _STOP_S)
        self._output.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
