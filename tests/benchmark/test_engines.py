"""The benchmark of engines, on a CPU and in the smallest way."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from benchmark import entrants
from benchmark.__main__ import main
from benchmark.entrants import Entrant
from benchmark.server_process import ROOT


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


LIMITS = """
import signal
from benchmark.entrants import TimeLimit

def outer(*_):
    raise SystemExit("the outer timer has run out")

signal.signal(signal.SIGALRM, outer)
signal.setitimer(signal.ITIMER_REAL, 60)
for number in range(3000):
    try:
        with TimeLimit(number % 100 * 1e-6 + 1e-6):
            while True:
                sum(range(10))
    except TimeoutError as error:
        assert str(error).startswith("took longer than "), error
    assert signal.getsignal(signal.SIGALRM) is outer
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 1
"""


def test_what_takes_too_long_is_given_up_whenever_the_signal_comes():
    """In a process of its own: an alarm that nobody has a handler for ends one."""
    done = subprocess.run([sys.executable, "-c", LIMITS], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_engine_that_fails_is_out_and_the_others_go_on():
    class Failing:
        def infer(self, batch):
            raise RuntimeError("CUDA error: an illegal instruction was encountered\nmore")

    each = Entrant("failing", None, engine=Failing())
    entrants._turn(each, 4, [[]], is_cuda=False, counts=True)
    assert each.reason == "failed at 4: CUDA error: an illegal instruction was encountered"
    entrants._turn(each, 8, [[]], is_cuda=False, counts=True)
    assert not each.infer_ms
