"""`python -m benchmark load` against a real server with the hashing engine, and with another's answers."""

from __future__ import annotations

import json

import pytest

from benchmark.__main__ import main
from benchmark.harness.server import ROOT
from benchmark.harness.trivial_server import TrivialServer


@pytest.fixture(scope="module")
def server():
    with TrivialServer() as running:
        yield running.url


def test_every_answer_is_verified_at_percents_of_the_peak(server, tmp_path, capsys):
    output = tmp_path / "load.json"
    words = [
        "load",
        server,
        "--trivial",
        "--rates",
        "10,20",
        "--percent-of-peak",
        "--seconds",
        "1",
        "--warm-up",
        "0",
    ]
    assert main([*words, "--processes", "2", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    peak, *rows = result["rows"]
    assert result["images"] == result["images_told_apart"] == 64
    assert result["machine"]["cpu"]
    assert str(ROOT) not in output.read_text()
    assert [round(row["offered_per_s"] / peak["answered_per_s"] * 100) for row in rows] == [10, 20]
    for row in result["rows"]:
        assert row["ok"] == row["sent"] > 0
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p99_9"] <= row["latency_ms"]["max"]
    printed = capsys.readouterr().out
    assert "p99.9" in printed and "20 % of the peak" in printed


def test_a_server_of_another_model_ends_it_with_1(server, tmp_path, capsys):
    """The hashes are no digits."""
    output = tmp_path / "load.json"
    words = ["load", server, "--model", str(ROOT / "models" / "demo"), "--rate", "100", "--requests", "20"]
    assert main([*words, "--count", "5", "--output", str(output)]) == 1
    row = json.loads(output.read_text())["rows"][0]
    assert (row["wrong"], row["ok"]) == (20, 0)
    assert "label 'class " in capsys.readouterr().err


def test_the_ceiling_is_measured_without_a_server(tmp_path, capsys):
    output = tmp_path / "ceiling.json"
    assert main(["load", "--ceiling", "--output", str(output)]) == 0
    ceiling = json.loads(output.read_text())["ceiling"]
    assert ceiling["requests_per_s"] > 100
    assert f"{ceiling['requests_per_s']:,} requests/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["http://127.0.0.1:1"], "nothing to do"),
        (["--rate", "5", "--trivial"], "needs the server's URL"),
        (["http://127.0.0.1:1", "--rate", "5"], "--model BUNDLE"),
        (["http://127.0.0.1:1", "--rate", "0"], "must be greater than 0"),
    ],
)
def test_wrong_use_says_what_is_missing(words, said, capsys):
    with pytest.raises(SystemExit):
        main(["load", *words])
    assert said in capsys.readouterr().err
