"""`python -m models run PACKAGE`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from runtime.interpreters.__main__ import main
from tests.conftest import ROOT


def run(*words):
    done = subprocess.run(
        [sys.executable, "-m", "models", "run", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_every_replica_prints_its_output(packages):
    words = ["--pickle", "model", "model.pkl", "--ones", "1,1,10,20", "--replicas", "2", "--head", "3"]
    code, out, err = run(packages / "simple", *words)
    assert (code, err) == (0, "")
    weight = torch.jit.load(packages / "simple_jit").weight[0, :3] + 1
    line = " ".join(f"{value:.6g}" for value in weight.tolist())
    assert out.splitlines() == ["ok", f"replica 0: {line}", f"replica 1: {line}"]


@pytest.mark.parametrize(
    ("pickle", "words"), [("none.pkl", "error loading the model"), ("model.pkl", "error running the model")]
)
def test_what_does_not_load_or_run_ends_with_1_and_one_line(packages, pickle, words, capfd):
    assert main([str(packages / "simple"), "--pickle", "model", pickle, "--ones", "3,3"]) == 1
    out, err = capfd.readouterr()
    assert out == "" and err.startswith(words) and len(err.splitlines()) == 1
