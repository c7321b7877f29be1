"""The comparison with TorchServe: what it says of answers that differ, and that it is left out without Java."""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from benchmark.peers import torchserve as peer
from benchmark.peers.environment import Environment
from benchmark.service import torchserve
from benchmark.service.torchserve import compare


@contextlib.contextmanager
def saying(answers):
    """A server that gives its answers in turn; its URL."""
    left = iter(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(next(left)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield "http://127.0.0.1:{}".format(*server.server_address[1:])
        finally:
            server.shutdown()


def test_answers_are_compared_in_their_labels_order_and_scores():
    theirs = [{"a": 0.7, "b": 0.2}] * 4
    ours = [{"a": 0.7, "b": 0.2}, {"a": 0.69, "b": 0.2}, {"b": 0.7, "a": 0.7}, {"a": 0.7, "c": 0.3}]
    with saying(theirs) as one, saying(theirs) as same, saying(ours) as other:
        rows = compare({"theirs": one, "same": same, "ours": other}, [b"image"] * 4)
    known = {"images": 4, "refused": 0}
    none = {"other_first": 0, "other_five": 0, "other_order": 0, "largest_difference": 0}
    some = {"other_first": 1, "other_five": 1, "other_order": 2, "largest_difference": pytest.approx(0.5)}
    assert rows == [{"server": "same", **known, **none}, {"server": "ours", **known, **some}]


def test_without_java_it_is_skipped_with_a_word(monkeypatch, capsys):
    monkeypatch.setattr(Environment, "install", lambda self: None)
    monkeypatch.setattr(peer.shutil, "which", lambda program: None)
    assert torchserve.run(argparse.Namespace(cores=None)) == 0
    assert "skipped: TorchServe needs Java" in capsys.readouterr().out


def test_the_peers_settings_name_its_ports_and_batches(tmp_path):
    options = argparse.Namespace(port=9000, workers=3, max_batch_size=4, max_wait_ms=2)
    lines = dict(line.split("=", 1) for line in peer.write_settings(tmp_path, options).read_text().splitlines())
    assert lines["inference_address"] == "http://127.0.0.1:9000"
    assert lines["metrics_address"] == "http://127.0.0.1:9002"
    model = json.loads(lines["models"])["classify"]["1.0"]
    assert (model["minWorkers"], model["batchSize"], model["maxBatchDelay"]) == (3, 4, 2)
    assert Path(lines["model_store"]) == tmp_path


def test_a_turn_without_any_answer_of_torchserve_is_no_division_by_zero():
    row = {"requests_per_s": 20.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_ms": 3.0}
    assert torchserve._summary([row, row], [0.0, 10.0])["times_torchserve"] == 101.0
