"""A server that TorchServe's script starts from a config.properties, on free ports: ours, or the real one."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.compat.wire import Answer, Request, ask, unchecked
from tests.conftest import ROOT

# The `torchserve` program; that of an environment with the real one checks the tests themselves.
_REAL = os.environ.get("SNAPSERVE_REPLAY_AGAINST")
_PROGRAM = [_REAL] if _REAL else [sys.executable, "-m", "snapserve.torchserve_command", "--port", "0"]
_APIS = ("inference", "management", "metrics")
_START_S = 120.0
_STOP_S = 30.0


class Served:
    """A running server.

    Attributes:
        store: its model store, a copy of its own.
        folder: its working directory.
        ports: API -> port on 127.0.0.1.
    """

    def __init__(self, store: Path, folder: Path, settings: Mapping[str, str]) -> None:
        """Prepares it; `start` starts it.

        Args:
            store: model store, which is copied into the folder.
            folder: working directory, empty.
            settings: lines of config.properties; `{NAME}` of an API is its address.
        """
        self.folder, self.store = folder, folder / "store"
        shutil.copytree(store, self.store)
        self.ports = dict(zip(_APIS, free_ports(3), strict=True))
        self._schemes = dict.fromkeys(_APIS, "http")
        addresses = {f"{api}_address": f"http://127.0.0.1:{port}" for api, port in self.ports.items()}
        lines = {"model_store": str(self.store), **addresses, **settings}
        for api in _APIS:
            scheme, port = lines[f"{api}_address"].format(**self.ports).split("://127.0.0.1:")
            self._schemes[api], self.ports[api] = scheme, int(port)
        text = "".join(f"{name}={value.format(**self.ports)}\n" for name, value in lines.items())
        self._config = folder / "config.properties"
        self._config.write_text(text)

    def start(self, *options: str, with_config: bool = True, path: str = "") -> None:
        """Starts the server, and waits until it says that it is healthy.

        Args:
            *options: of the command line.
            with_config: whether it is told of its config.properties.
            path: further folder that its Python processes import from.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        config = ["--ts-config", str(self._config)] if with_config else []
        self._log = self.folder / "output.txt"
        temporary = self.folder / "tmp"  # with the file that says which server is running
        temporary.mkdir(exist_ok=True)
        python_path = os.pathsep.join(filter(None, (path, str(ROOT))))
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_PROGRAM, "--start", "--foreground", *config, *options],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": python_path, "TMPDIR": str(temporary)},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.output()[-2000:]}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._pinged() == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the server is not healthy: {self.output()[-2000:]}")

    def _pinged(self) -> int:
        """The status of a ping, with a key if there are any; one that is too old is made anew."""
        status = self._get("inference", "/ping")
        if status == 400 and (self.folder / "key_file.json").exists():
            self._get("management", "/token?type=inference", "api")
        return status

    def _get(self, api: str, path: str, kind: str = "inference") -> int:
        address = "127.0.0.1", self.ports[api]
        if self._schemes[api] == "https":
            connection = http.client.HTTPSConnection(*address, timeout=5, context=unchecked())
        else:
            connection = http.client.HTTPConnection(*address, timeout=5)
        file = self.folder / "key_file.json"
        headers = {"Authorization": f"Bearer {self.keys()[kind]}"} if file.exists() else {}
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

    def stop(self) -> int:
        """Ends the server as an operator does, and returns its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(_STOP_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def output(self) -> str:
        """What it printed."""
        return self._log.read_text(errors="replace")

    def keys(self) -> dict[str, str]:
        """Kind of token -> key, as key_file.json has them now."""
        found = json.loads((self.folder / "key_file.json").read_text())
        return {kind.lower(): entry["key"] for kind, entry in found.items()}

    async def renew(self, kind: str) -> None:
        """Makes a new key of a kind."""
        headers = {"Host": "127.0.0.1", "Authorization": f"Bearer {self.keys()['api']}"}
        answer = await self.ask("management", Request("GET", f"/token?type={kind}", headers))
        assert answer.status == 200, answer.body

    async def ask(self, api: str, request: Request, timeout_s: float = 60) -> Answer:
        """Sends a request to one of its APIs."""
        return await ask(self.ports[api], request, timeout_s, self._schemes[api] == "https")

    async def json(self, api: str, method: str, path: str, timeout_s: float = 60) -> object:
        """The JSON that a request without a body is answered with."""
        answer = await self.ask(api, Request(method, path, {"Host": "127.0.0.1"}), timeout_s)
        return json.loads(answer.body)

    async def until_settled(self, model: str, waiting: int, before: int) -> None:
        """Waits until a model has taken further requests, of which `waiting` are in the queue.

        Args:
            model: its name.
            waiting: requests that wait behind those that are running.
            before: requests of the model so far, by the metric.
        """
        async with asyncio.timeout(30):
            while await self.requests_of(model) <= before + waiting:
                await asyncio.sleep(0.02)
            while (await self.json("management", "GET", f"/models/{model}"))[0]["jobQueueStatus"][  # type: ignore[index]
                "pendingRequests"
            ] != waiting:
                await asyncio.sleep(0.02)

    async def until_answered(self, model: str, body: bytes) -> None:
        """Asks a model until it answers."""
        request = Request(
            "POST", f"/predictions/{model}", {"Host": "127.0.0.1", "Content-Type": "text/plain"}, body
        )
        async with asyncio.timeout(30):
            while (await self.ask("inference", request)).status != 200:
                await asyncio.sleep(0.05)

    async def requests_of(self, model: str) -> int:
        """Requests of a model since the start."""
        request = Request("GET", "/metrics?name[]=ts_inference_requests_total", {"Host": "127.0.0.1"})
        lines = (await self.ask("metrics", request)).body.decode().splitlines()
        counts = [line.rpartition(" ")[2] for line in lines if f'model_name="{model}"' in line]
        return int(sum(map(float, counts)))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
