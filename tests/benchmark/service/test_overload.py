"""`python -m benchmark overload`: a real server at three times its peak, and clients that retry."""

from __future__ import annotations

import json

import pytest

from benchmark.__main__ import main


@pytest.mark.exhaustive
def test_what_is_refused_is_told_when_to_come_back_and_nothing_is_lost(tmp_path):
    file = tmp_path / "overload.json"
    words = ["--item-ms", "5", "--seconds", "1.5", "--peak-seconds", "2", "--burst-seconds", "3", "--deadlines-ms"]
    words.append("--options=--target-latency-ms 300")
    assert main(["overload", *words, "--output", str(file)]) == 0
    result = json.loads(file.read_text())
    calm, *overloads = result["rows"]
    assert len(overloads) == 1
    for row in (calm, *overloads):
        assert (row["wrong"], row["errors"], row["no Retry-After"]) == (0, "0", 0)
    assert all(row["refused"] > 0 for row in overloads)
    for burst in result["bursts"]:
        assert burst["errors"] == "0"
        assert burst["refused at first"] > 0
