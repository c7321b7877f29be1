"""The HTTP path's figures: requests that were answered, CPU time of the server alone."""

from __future__ import annotations

import json
import os
import urllib.request
import zlib

import pytest

from benchmark.__main__ import main
from benchmark.harness.server import ROOT
from benchmark.harness.trivial_server import TrivialServer, trivial_scores

IMAGE = ROOT / "images" / "cat.jpg"


@pytest.fixture
def wrk(require):
    require("wrk")


def test_the_trivial_servers_answer_is_a_hash_of_the_bytes_and_of_nothing_else():
    bodies = [b"one image", b"another one", b"one image"]
    with TrivialServer("--core", str(min(os.sched_getaffinity(0)))) as server:
        assert os.sched_getaffinity(server.process.pid) == {min(os.sched_getaffinity(0))}
        answers = []
        for body in bodies:
            with urllib.request.urlopen(server.url + "/classify", data=body, timeout=30) as response:
                answers.append(json.load(response)["predictions"])
    assert answers[0] == answers[2] != answers[1]
    assert zlib.crc32(bodies[0]) != zlib.crc32(bodies[1])
    scores = trivial_scores(bodies[1])
    assert all(abs(each["score"] - scores[each["index"]]) < 1e-4 for each in answers[1])


def test_the_command_measures(wrk, tmp_path, capsys):
    output = tmp_path / "http.json"
    words = ["http", "--image", str(IMAGE), "--rounds", "1", "--seconds", "1", "--connections", "4"]
    before = os.sched_getaffinity(0)
    assert main([*words, "--output", str(output)]) == 0
    assert os.sched_getaffinity(0) == before
    result = json.loads(output.read_text())
    summary = result["summary"]
    assert summary["requests_per_s"] > 50
    assert 0 < summary["system_us"] < summary["cpu_us"]
    assert summary["cpu_us"] * summary["requests_per_s"] / 1e6 == pytest.approx(summary["core_busy"], rel=0.02)
    assert str(ROOT) not in output.read_text()
    assert "the goal is 2,500" in capsys.readouterr().out
