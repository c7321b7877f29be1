"""A short run of `python -m benchmark interpreters`."""

from __future__ import annotations

import json
import sys

from benchmark.__main__ import main
from benchmark.micro.arithmetic import Arithmetic, closed_loop


def test_every_way_is_measured(tmp_path):
    file = tmp_path / "result.json"
    words = ["--rounds", "1", "--seconds", "0.2", "--steps", "200", "--free-threaded", sys.executable]
    assert main(["interpreters", *words, "--output", str(file)]) in (0, 1)
    result = json.loads(file.read_text())
    ways = [(row["way"], row["calling threads"]) for row in result["rows"]]
    names = ("threads", "replicas", "TorchScript", "free-threaded")
    assert ways == [(name, threads) for threads in (1, 2) for name in names]
    assert all(row["requests per s"] > 0 for row in result["rows"]) and result["ratio"] > 0


def test_the_loop_counts_the_calls_of_all_threads():
    calls = []
    rate = closed_loop(lambda value: calls.append(Arithmetic(1)(value)), 2, 0.05)
    assert (
        rate > 0 and len(calls) >= 2 and set(calls) == {Arithmetic(1)(value) for value in range(len(set(calls)))}
    )
