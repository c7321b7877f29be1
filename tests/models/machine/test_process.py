"""What a process sets at its start, and that importing sets none of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from benchmark.harness.server import ROOT, ServerProcess
from models.machine.process import prepare_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP is asked")


@pytest.fixture
def spins(monkeypatch):
    """How often the threads of each process spin, by what it has said.

    GNU's OpenMP, which torch brings, then tells its settings as it is loaded; by default they spin 300,000 times.
    """
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "verbose")
    return lambda said: re.findall(r"GOMP_SPINCOUNT = '(\d+)'", said)


@pytest.mark.parametrize("workers", [1, 2])
def test_those_of_a_server(spins, workers):
    with ServerProcess("--model", str(ROOT / "models" / "demo"), "--workers", str(workers)) as server:
        assert spins(server.stderr()) == ["0"] * workers


def test_those_of_the_optimiser(spins, tmp_path):
    words = [sys.executable, str(ROOT / "optimize_model_for_inference.py"), "--arch", "none-such"]
    done = subprocess.run([*words, "--output", str(tmp_path / "b")], capture_output=True, text=True, check=False)
    assert set(spins(done.stderr)) == {"0"}  # of the command, and of the process that candidates are forked from


def test_who_wants_them_to_spin_is_obeyed(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    prepare_process()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
