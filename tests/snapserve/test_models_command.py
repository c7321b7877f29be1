"""`snapserve models`, against a server of the standard library that notes what is asked."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from server.__main__ import main as server_main
from snapserve.models_command import main

ROOT = Path(__file__).parents[2]
MODEL = {
    "name": "digits",
    "default": "2",
    "before": "1",
    "shadow": {"version": "1", "share": 0.1},
    "versions": [
        {"version": "1", "source": "command-line", "workers": [{"worker": 0, "state": "loaded"}]},
        {"version": "2", "source": "added", "path": "new", "workers": []},
    ],
}


class Server(HTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.answer = [], (200, MODEL)


class Handler(BaseHTTPRequestHandler):
    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, json.loads(body) if body else None))
        self.server.token = self.headers["Authorization"]
        status, document = self.server.answer
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def environment(server):
    return {"SNAPSERVE_MANAGEMENT_PORT": str(server.server_port), "SNAPSERVE_MANAGEMENT_TOKEN": "secret"}


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("list", ("GET", "/models", None)),
        ("list digits", ("GET", "/models/digits", None)),
        ("add digits 2 new", ("PUT", "/models/digits/2", {"path": "new"})),
        ("add d 2 x.pt --kind tensor", ("PUT", "/models/d/2", {"path": "x.pt", "kind": "tensor"})),
        (
            "add r 1.0 r.mar --kind archive --workers 2 --batch-size 4 --handler h.py",
            (
                "PUT",
                "/models/r/1.0",
                {
                    "path": "r.mar",
                    "kind": "archive",
                    "archive": {"handler": "h.py", "batch_size": 4, "min_workers": 2},
                },
            ),
        ),
        ("add digits 2 new --default", ("PUT", "/models/digits/2", {"path": "new", "default": True})),
        (
            "add d 2 x.pt --on-use --labels l --processes 2 --no-batching --runner process",
            (
                "PUT",
                "/models/d/2",
                {
                    "path": "x.pt",
                    "on_use": True,
                    "labels": "l",
                    "runner": "process",
                    "processes": 2,
                    "batchable": False,
                },
            ),
        ),
        (
            "add d 2 x --golden g --least-agreement 0.9 --max-latency-ms 20",
            (
                "PUT",
                "/models/d/2",
                {"path": "x", "golden": {"folder": "g", "least_agreement": 0.9, "max_latency_ms": 20.0}},
            ),
        ),
        ("remove digits 2", ("DELETE", "/models/digits/2", None)),
        ("remove a/../b ?x=1", ("DELETE", "/models/a%2F..%2Fb/%3Fx%3D1", None)),
        ("default digits 2", ("POST", "/models/digits/2/default", None)),
        ("scale digits 2 3", ("POST", "/models/digits/2/scale", {"processes": 3})),
        ("shadow digits 2", ("PUT", "/models/digits/shadow", {"version": "2", "share": 0.1})),
        ("shadow digits 2 25%", ("PUT", "/models/digits/shadow", {"version": "2", "share": 0.25})),
        ("shadow digits off", ("DELETE", "/models/digits/shadow", None)),
    ],
)
def test_each_command_asks_for_what_it_says(server, environment, words, asked, capsys):
    assert main(words.split(), environment) == 0
    assert (server.asked, server.token) == ([asked], "Bearer secret")
    assert capsys.readouterr().err == ""


def test_what_is_printed(server, environment, capsys):
    server.answer = (200, {"models": [MODEL], "default": "digits"})
    assert main(["list"], environment) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits (default model)"
    assert lines[1].split() == ["1", "shadow", "0.1", "command", "line", "worker", "0", "loaded"]
    assert lines[2].split() == ["2", "default", "new"]
    server.answer = (200, {**MODEL, "versions": [], "default": None, "shadow": None})
    assert main(["remove", "digits", "2"], environment) == 0
    assert capsys.readouterr().out == "digits: removed\n"
    assert main(["--json", "list"], environment) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "digits"


def test_the_token_may_be_in_a_file(server, environment, tmp_path):
    (tmp_path / "token").write_text(" from-a-file\n")
    del environment["SNAPSERVE_MANAGEMENT_TOKEN"]
    assert main(["--token-file", str(tmp_path / "token"), "list"], environment) == 0
    assert server.token == "Bearer from-a-file"
    assert main(["list"], {**environment, "SNAPSERVE_MANAGEMENT_TOKEN_FILE": str(tmp_path / "token")}) == 0


PROBLEM = {"type": "urn:snapserve:problem:x", "title": "No", "detail": "Because.", "hint": "Try.", "status": 409}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((409, PROBLEM), "No: Because. Try."),
        ((422, {**PROBLEM, "hint": ""}), "No: Because."),
        ((200, b"<html>"), "127.0.0.1:{port}: no management of SnapServe answers there"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_1(server, environment, capsys, answer, said):
    server.answer = answer
    assert main(["remove", "a", "1"], environment) == 1
    assert capsys.readouterr().err == f"snapserve models: {said.format(port=server.server_port)}\n"


def test_a_server_that_is_not_there_and_a_token_that_is_missing(server, capsys):
    port = str(server.server_port)
    assert main(["--port", port, "list"], {}) == 1
    assert "SNAPSERVE_MANAGEMENT_TOKEN must give the token" in capsys.readouterr().err
    assert main(["--port", port, "--token-file", "/nowhere", "list"], {}) == 1
    assert capsys.readouterr().err == "snapserve models: --token-file /nowhere: No such file or directory\n"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    assert main(["--port", port, "list"], {"SNAPSERVE_MANAGEMENT_TOKEN": "x"}) == 1
    assert capsys.readouterr().err == f"snapserve models: 127.0.0.1:{port}: Connection refused\n"


@pytest.mark.parametrize("words", [["list"], ["--port", "x", "list"], ["--port", "1"], ["--port", "1", "grow"]])
def test_a_wrong_word_is_one_line_and_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words, {})
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_it_is_a_part_of_the_servers_command_and_needs_neither_torch_nor_the_server(
    server, environment, monkeypatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert server_main(["models", "list"]) == 0
    code = (
        "import sys; from snapserve.models_command import main; main(['list']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'server', 'aiohttp', 'models')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
