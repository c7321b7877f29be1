"""The benchmark of engines, on a CPU and in the smallest way."""

from __future__ import annotations

import json

import pytest
import torch
from rich.console import Console

from benchmark.__main__ import main
from benchmark.pipeline.engines import Comparison, Measured
from models.errors import EngineError


def test_engines_are_timed_and_the_machine_is_described(tmp_path, capsys):
    output = tmp_path / "engines.json"
    words = ["engines", "--device", "cpu", "--engines", "eager-fp32,torchscript-fp32", "--sizes", "1,2"]
    assert main([*words, "--rounds", "1", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["machine"]["cpu"] and "gpu" in result["machine"]
    assert "random weights" in result["model"]
    assert {row["name"]: list(row["infer"]) for row in result["engines"]} == {
        "eager-fp32": ["1", "2"],
        "torchscript-fp32": ["1", "2"],
    }
    for row in result["engines"]:
        assert row["infer"]["2"]["images_per_s"] == pytest.approx(2000 / row["infer"]["2"]["ms"], abs=0.06)
        assert result["largest_score_difference"][row["name"]] < 1e-4
    assert "eager-fp32" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card_it_says_so(capsys):
    assert main(["engines", "--device", "cuda", "--sizes", "1"]) == 1
    assert "no engine of device 'cuda' runs here" in capsys.readouterr().out


def test_what_takes_too_long_is_given_up(capsys):
    words = ["engines", "--device", "cpu", "--engines", "eager-fp32", "--sizes", "1", "--limit-s", "0.001"]
    assert main(words) == 1
    assert "eager-fp32: not prepared: took longer than 0.001 s" in capsys.readouterr().out


class Timed:
    """An entrant whose batches take a millisecond per image, until it fails."""

    def __init__(self, calls=100):
        self.calls = calls

    def round(self, setting, sizes):
        self.calls -= 1
        if self.calls < 0:
            raise EngineError("does not run (RuntimeError: an illegal instruction was encountered)")
        return {size: float(size) for size in sizes}


def test_an_engine_that_fails_is_out_and_the_others_go_on():
    running = {"failing": Timed(calls=2), "at once": Timed(calls=0), "running": Timed()}
    comparison = Comparison("cpu", (1, 4), Console(quiet=True))
    measured = comparison.measured
    measured |= {name: Measured() for name in running}
    comparison.measure(running, 3)
    comparison.print()
    assert measured["running"].infer_ms == {1: [1, 1, 1], 4: [4, 4, 4]} and not measured["running"].reason
    assert measured["failing"].infer_ms == {1: [1], 4: [4]}
    assert not measured["at once"].infer_ms
    for name in ("failing", "at once"):
        assert measured[name].reason.startswith("failed: does not run (RuntimeError")
