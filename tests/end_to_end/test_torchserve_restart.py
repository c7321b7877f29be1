"""What TorchServe's users have at starts and stops: snapshots, config.properties, the console script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

import psutil
import pytest

from benchmark.harness.server import ROOT
from server.torchserve.properties import read_properties
from tests.end_to_end.archives import BROKEN, TorchServer, make_archive
from tests.processes import lives

# As TorchServe 0.12.0 wrote it.
SNAPSHOT = r"""#Saving snapshot
#Wed Nov 25 22:33:20 UTC 2026
enable_model_api=true
default_response_timeout=77
number_of_netty_threads=4
tsConfigFile=config.properties
model_snapshot={\n  "name"\: "20261125223320123-snapshot.cfg",\n  "modelCount"\: 1,\n  "created"\: 1,\n  "models"\: {\n    "kept"\: {\n      "1.0"\: {\n        "defaultVersion"\: true,\n        "marName"\: "echo.mar",\n        "minWorkers"\: 1,\n        "maxWorkers"\: 1,\n        "batchSize"\: 2,\n        "maxBatchDelay"\: 100,\n        "responseTimeout"\: 120,\n        "startupTimeout"\: 120,\n        "runtimeType"\: "python"\n      }\n    }\n  }\n}
"""  # noqa: E501


@pytest.fixture
def folder(tmp_path):
    """A working directory with a model store."""
    store = tmp_path / "store"
    store.mkdir()
    make_archive(store / "echo.mar", "echo")
    make_archive(store / "echo2.mar", "echo", version="2.0")
    return tmp_path


def test_two_workers_killed_with_their_supervisor_are_restored_from_the_snapshot(folder):
    with TorchServer(folder, "--workers", "2", "--enable-model-api") as server:
        assert server.ask("POST", "/models?url=echo.mar&initial_workers=2&batch_size=3")[0] == 200
        assert server.ask("POST", "/models?url=echo2.mar&initial_workers=1")[0] == 200
        assert server.ask("POST", "/models?url=echo.mar&model_name=idle")[0] == 200
        assert server.ask("PUT", "/models/echo/2.0/set-default")[0] == 200
        before = [server.ask("GET", f"/models/{name}/all")[1] for name in ("echo", "idle")]
        assert [len(each["workers"]) for each in before[0]] == [2, 1]
        pids = {each["pid"] for each in before[0][0]["workers"]}
        assert len(pids) == 2 and -1 not in pids, "one in each worker of the server"
        assert {server.predict("echo/1.0", "a") for _ in range(6)} == {(200, "echo says a")}
        server.server.send(signal.SIGKILL)
    with TorchServer(folder, "--workers", "2") as server:
        ready_at = datetime.now(UTC)
        after = [server.ask("GET", f"/models/{name}/all")[1] for name in ("echo", "idle")]
        assert [[settings(each) for each in models] for models in after] == [
            [settings(each) for each in models] for models in before
        ]
        started = [datetime.fromisoformat(each["startTime"]) for each in after[0][0]["workers"]]
        assert max(started) < ready_at
        assert server.ask("GET", "/models")[1]["models"][0] == {"modelName": "echo", "modelUrl": "echo2.mar"}
        assert {server.predict("echo", "b") for _ in range(6)} == {(200, "echo says b")}
        assert server.predict("idle")[0] == 503
        server.server.send(signal.SIGTERM)
        assert server.server.end()[0] == 0
    files = sorted(file.name for file in (folder / "logs" / "config").iterdir())
    assert files[-1].endswith("-shutdown.cfg") and files[-2].endswith("-startup.cfg")
    assert len(files) <= 10


def settings(described):
    return {name: value for name, value in described.items() if name != "workers"}


def test_a_snapshot_of_torchserve_itself_is_restored(folder):
    snapshots = folder / "logs" / "config"
    snapshots.mkdir(parents=True)
    (snapshots / "20261125223320123-snapshot.cfg").write_text(SNAPSHOT)
    with TorchServer(folder, "--models", "ignored=echo2.mar") as server:
        (told,) = server.ask("GET", "/models/kept")[1]
        assert (told["batchSize"], told["minWorkers"], told["loadedAtStartup"]) == (2, 1, False)
        assert server.predict("kept", "hi") == (200, "kept says hi")
        assert len(server.ask("GET", "/models")[1]["models"]) == 1
        assert server.ask("POST", "/models?url=echo2.mar")[0] == 200, "its settings hold"
        assert server.ask("GET", "/models/echo")[1][0]["responseTimeout"] == 77
        said = server.server.stderr()
        assert "number_of_netty_threads" in said and "; --models is ignored (--ncs starts without" in said


def test_an_archive_that_does_not_load_at_the_start_hurts_itself_only(folder):
    make_archive(folder / "store" / "broken.mar", "broken", BROKEN)
    (folder / "store" / "notzip.mar").write_bytes(b"no archive")
    properties = {"load_models": "all", "default_workers_per_model": "1", "enable_model_api": "$$API$$"}
    lines = "".join(f"{key}={value}\n" for key, value in properties.items())
    (folder / "config.properties").write_text(lines + "prefer_direct_buffer=true\n")
    os.environ["API"] = "true"
    try:
        server = TorchServer(folder, "--ncs")
    finally:
        del os.environ["API"]
    with server:
        names = [each["modelName"] for each in server.ask("GET", "/models")[1]["models"]]
        assert names == ["broken", "echo"]
        assert server.predict("echo/2.0", "hi") == (200, "echo says hi")
        assert server.predict("broken")[0] == 503
        (told,) = server.ask("GET", "/models/broken")[1]
        assert (told["minWorkers"], told["workers"][0]["pid"]) == (1, -1)
        make_archive(folder / "store" / "new.mar", "broken")
        (folder / "store" / "new.mar").replace(folder / "store" / "broken.mar")
        until_ok(lambda: server.predict("broken", "hi") == (200, "broken says hi"))
        assert not (folder / "logs").exists()
        assert "notzip.mar is left out" in server.server.stderr()


def until_ok(holds):
    end = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--models", "x=nothere.mar"], "--models x=nothere.mar"),
        (["--model-settings", "[]"], "must be JSON like"),
        (["--ts-config", "nothere.properties"], "nothere.properties: no such file"),
        (["--allowed-urls", "("], "must be regular expressions"),
        (["--management-address", "nowhere"], "must be HOST:PORT"),
    ],
)
def test_a_wrong_start_ends_with_one_line(folder, options, text):
    code, said = run(folder, "server", "--torchserve", "--model-store", "store", *options)
    assert (code, len(said.splitlines())) == (2, 1)
    assert text in said


def run(folder, *words, **variables):
    """Exit code of `python -m …`, and what it says on the standard error."""
    with (folder / "said").open("w+") as file:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            stdout=subprocess.DEVNULL,
            stderr=file,
            timeout=120,
            check=False,
        )
        file.seek(0)
        return done.returncode, file.read()


def test_a_snapshot_whose_archive_is_gone_stops_the_start(folder):
    snapshots = folder / "logs" / "config"
    snapshots.mkdir(parents=True)
    (snapshots / "20261125223320123-snapshot.cfg").write_text(SNAPSHOT)
    (folder / "store" / "echo.mar").unlink()
    code, said = run(folder, "server", "--torchserve", "--model-store", "store")
    assert code == 2
    assert "echo.mar is not in the model store; --ncs starts without the snapshot" in said


class Script:
    """`torchserve` in a folder, with ports and a folder of temporary files of its own."""

    def __init__(self, folder, port):
        self.folder, self.port = folder, port
        (folder / "tmp").mkdir()
        names = ("inference", "management", "metrics")
        self.options = [
            word
            for number, name in enumerate(names)
            for word in (f"--{name}-address", f"127.0.0.1:{port + number}")
        ]

    def __call__(self, *words):
        return run(self.folder, "snapserve", "torchserve", *words, TMPDIR=str(self.folder / "tmp"))

    def start(self, *words):
        return self("--start", "--port", "0", *words, *self.options)

    @property
    def pid(self):
        return int((self.folder / "tmp" / ".model_server.pid").read_text().split()[0])


@pytest.fixture
def script(folder, free_ports):
    script = Script(folder, free_ports)
    yield script
    script("--stop")


@pytest.fixture
def free_ports(unused_tcp_port_factory):
    """The first of three ports in a row that nobody has."""
    while True:
        first = unused_tcp_port_factory()
        if first < 60_000:
            return first


def test_the_script_starts_in_the_background_and_stops(script, folder):
    assert script("--stop")[0] == 0
    code, said = script.start("--model-store", "store", "--models", "a=echo.mar", "b=echo2.mar",
                              "--log-config", "log4j2.xml", "--ncs")  # fmt: skip
    assert code == 0, said
    assert "--log-config has no effect" in said
    keys = json.loads((folder / "key_file.json").read_text())
    request = urllib.request.Request(
        f"http://127.0.0.1:{script.port}/predictions/b",
        data=b"hi",
        headers={"Authorization": f"Bearer {keys['inference']['key']}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.read() == b"b says hi"
    assert script.start("--model-store", "store")[0] == 1, "it runs already"
    server = psutil.Process(script.pid)
    assert script("--stop")[0] == 0
    assert not lives(server)
    assert not (folder / "key_file.json").exists()
    assert not (folder / "tmp" / ".model_server.pid").exists()


def test_the_script_says_why_a_server_does_not_start(script):
    code, said = script.start("--model-store", "nothere")
    assert (code, "--model-store nothere: No such file or directory" in said) == (2, True)
    assert script("--stop")[0] == 0


def test_the_script_stops_no_process_that_has_the_number_of_a_server_that_has_ended(script, folder):
    with subprocess.Popen(["sleep", "60"]) as other:
        (folder / "tmp" / ".model_server.pid").write_text(f"{other.pid}\n1\n")
        assert script("--stop")[0] == 0
        assert other.poll() is None
        other.kill()


def test_what_is_written_is_read_by_the_same_rules():
    properties = read_properties(SNAPSHOT)
    assert json.loads(properties["model_snapshot"])["models"]["kept"]["1.0"]["batchSize"] == 2


def test_inference_and_management_on_one_port(script, folder):
    address = f"127.0.0.1:{script.port}"
    script.options[3] = address
    code, said = script.start("--model-store", "store", "--disable-token-auth", "--enable-model-api", "--ncs")
    assert code == 0, said

    def ask(method, path, data=None):
        request = urllib.request.Request(f"http://{address}{path}", method=method, data=data)
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()

    assert ask("POST", "/models?url=echo.mar&initial_workers=1")[0] == 200
    assert json.loads(ask("GET", "/models")[1]) == {"models": [{"modelName": "echo", "modelUrl": "echo.mar"}]}
    for path in ("/predictions/echo", "/models/echo/invoke", "/v1/models/echo:predict"):
        assert ask("POST", path, b"hi") == (200, "echo says hi")
    assert json.loads(ask("GET", "/v1/models/echo")[1]) == {"name": "echo", "ready": True}
    assert "Requests2XX" in ask("GET", "/metrics")[1]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask("DELETE", "/models/none")
