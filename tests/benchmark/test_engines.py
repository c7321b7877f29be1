"""The benchmark of engines, on a CPU and in the smallest way."""

from __future__ import annotations

import json
import signal

import pytest
import torch

from benchmark import entrants
from benchmark.__main__ import main
from benchmark.entrants import Entrant


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


def test_an_engine_that_takes_too_long_to_prepare_is_given_up():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError, match=r"longer than 0\.05 s"), entrants._within(0.05):
        while True:
            sum(range(1000))
    assert signal.getsignal(signal.SIGALRM) is before


def test_an_engine_that_takes_too_long_before_it_has_begun_is_given_up_too():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError), entrants._within(1e-6):
        while True:
            sum(range(1000))
    assert signal.getsignal(signal.SIGALRM) is before


def test_an_engine_that_fails_is_out_and_the_others_go_on():
    class Failing:
        def infer(self, batch):
            raise RuntimeError("CUDA error: an illegal instruction was encountered\nmore")

    each = Entrant("failing", None, engine=Failing())
    entrants._turn(each, 4, [[]], is_cuda=False, counts=True)
    assert each.reason == "failed at 4: CUDA error: an illegal instruction was encountered"
    entrants._turn(each, 8, [[]], is_cuda=False, counts=True)
    assert not each.infer_ms
