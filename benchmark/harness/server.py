"""Servers and helpers in processes of their own, for benchmarks and end-to-end tests."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Self

import psutil

from benchmark.harness.clients import ask

ROOT = Path(__file__).parents[2]
PORT = "{port}"  # in a candidate's command, where the port goes
_START_S = 180.0
_STOP_S = 10.0
_MB = 2**20
_PROBE_S = 0.25  # processes that use less than half a core for so long are at rest

VARIABLES: dict[str, str] = {}  # further environment variables of every server


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
        folder: Path = ROOT,
    ) -> None:
        """Starts the server.

        Args:
            options: of the command line.
            wait: whether to return when the banner says that the server is ready, instead of at once.
            module: that is run; one with the server's banner and options.
            variables: further environment variables; SNAPSERVE_… ones are not inherited.
            folder: its working directory.
        """
        self._stderr: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed by __exit__
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSERVE_")}
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--port", "0", *options],
            cwd=folder,
            env={**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **VARIABLES, **variables},
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self.url = ""
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Waits for the banner, which names the URL. Raises RuntimeError if the server ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if address := re.search(r" on (http://\S+) \(ready in", line):
                self.url = address[1]
                return
        self.process.wait()
        raise RuntimeError(f"the server did not start: {self.stderr()}")

    def line(self, start: str) -> str:
        """The next line of the output, after the first of the banner, that starts with `start`, blanks apart.

        Raises:
            RuntimeError: the server ended before.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip().startswith(start):
                return line.strip()
        raise RuntimeError(f"the server printed no line with {start!r}: {self.stderr()}")

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
        """The standard error so far."""
        self._stderr.seek(0)
        return self._stderr.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._stderr.close()


class ServerFailed(Exception):
    """A candidate's server that did not start. The message is one line."""


class CandidateServer:
    """Any program that answers uploads like `/classify`; a context manager that ends all of its processes.

    Attributes:
        url: of the server.
        tree: its processes.
        start_s: seconds until its first answer.
    """

    def __init__(
        self,
        command: Callable[[int], list[str]],
        folder: Path,
        environment: Mapping[str, str],
        image: Path,
        base: str = "",
    ) -> None:
        """Starts the server and waits until it answers.

        Args:
            command: port -> words of the command line.
            folder: to start it in.
            environment: all environment variables.
            image: file that is uploaded until there is an answer.
            base: path before `/classify`.

        Raises:
            ServerFailed: there is none.
        """
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}{base}"
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        began = time.monotonic()
        self._process = subprocess.Popen(
            command(port),
            cwd=folder,
            env=environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.tree = ProcessTree(self._process.pid)
        try:
            self._wait(image, began + _START_S)
        except BaseException:
            self.close()
            raise
        self.start_s = time.monotonic() - began

    def _wait(self, image: Path, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerFailed(f"ended with {self._process.returncode}: {self._last_line()}")
            try:
                ask(self.url, image)
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
        """Ends all of its processes, by force where SIGTERM does not."""
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Helper:
    """A module of this folder in a process of its own, spoken to by its standard input and output.

    A context manager that ends it. Not multiprocessing: a child would import the program that measures.

    Attributes:
        output: its standard output.
    """

    def __init__(
        self, module: str, *words: str, variables: Mapping[str, str] = types.MappingProxyType({})
    ) -> None:
        """Starts it. words: of the command line; variables: further environment variables."""
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            # Unbuffered, Python drops the rest of what a pipe takes in part.
            env={**os.environ, "PYTHONUNBUFFERED": "", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin and self._process.stdout
        self._input, self.output = self._process.stdin, self._process.stdout

    def send(self, data: bytes) -> None:
        """Writes to its standard input."""
        self._input.write(data)
        self._input.flush()

    def line(self) -> str:
        """The next line that it prints. Raises RuntimeError when it has ended."""
        line = self.output.readline()
        if not line:
            raise RuntimeError(f"{self._module} has failed; the reason is on stderr")
        return line.decode().rstrip()

    @property
    def running(self) -> bool:
        """True until the process ends."""
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class ProcessTree:
    """A process and its descendants, as they are at the time of each call."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """The root first; none when it has ended."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> dict[int, float]:
        """User and system time of each process so far, by process id."""
        spent = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent[process.pid] = times.user + times.system
        return spent

    def memory_mb(self, kind: str) -> float:
        """Resident memory: a page that n processes share counts n times as `rss`, once as `pss`."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info() if kind == "pss" else process.memory_info()
                total += getattr(memory, kind)
        return total / _MB

    def settle(self, limit_s: float = 15.0) -> None:
        """Waits until the processes have ended their work for clients that have disconnected."""
        ends_at = time.monotonic() + limit_s
        busy = True
        while busy and time.monotonic() < ends_at:
            before = self.cpu_seconds()
            time.sleep(_PROBE_S)
            busy = spent_between(before, self.cpu_seconds()) > _PROBE_S / 2

    def halt(self) -> None:
        """Stops the processes where they are."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def go_on(self) -> None:
        """Resumes halted processes, children first."""
        for process in reversed(self.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def spent_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """CPU seconds between two readings; a process that ended in between counts up to the first."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
