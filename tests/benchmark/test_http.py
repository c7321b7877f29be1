"""The HTTP path's figures: requests that were answered, CPU time of the server alone, a profile that adds up."""

from __future__ import annotations

import json
import os
import urllib.request
import zlib

import pytest

from benchmark.__main__ import main
from benchmark.profile import Profile
from benchmark.server_process import ROOT
from benchmark.trivial_server import TrivialServer

PICTURE = ROOT / "images" / "cat.jpg"


@pytest.fixture
def wrk(require):
    require("wrk")


def test_the_trivial_servers_answer_is_a_hash_of_the_bytes_and_of_nothing_else():
    bodies = [b"one picture", b"another one", b"one picture"]
    with TrivialServer("--core", str(min(os.sched_getaffinity(0)))) as server:
        assert os.sched_getaffinity(server.process.pid) == {min(os.sched_getaffinity(0))}
        answers = []
        for body in bodies:
            with urllib.request.urlopen(server.url + "/classify", data=body, timeout=30) as response:
                answers.append(json.load(response)["predictions"])
    assert answers[0] == answers[2] != answers[1]
    assert zlib.crc32(bodies[0]) != zlib.crc32(bodies[1])


def test_the_command_measures_and_says_where_the_time_goes(wrk, tmp_path, capsys):
    output = tmp_path / "http.json"
    words = ["http", "--picture", str(PICTURE), "--rounds", "1", "--seconds", "1", "--connections", "4"]
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


def test_a_profile_counts_a_function_once_per_stack_and_its_own_samples_apart():
    lines = [
        "main (a/b/main.py:3);read (a/b/upload.py:10);read (a/b/upload.py:12) 3",
        "main (a/b/main.py:4);read (a/b/upload.py:10) 1",
        "main (a/b/main.py:5) 2",
        "",
    ]
    read, main_ = "read (b/upload.py)", "main (b/main.py)"
    profile = Profile.read(lines)
    assert profile.samples == 6
    assert profile.self_samples == {read: 4, main_: 2}
    assert profile.whole_samples == {read: 4, main_: 6}
