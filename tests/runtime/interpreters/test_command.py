"""`python -m models run PACKAGE`, and packages as engines of a process runner."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from models.errors import EngineError
from models.packages import PackageEngine
from runtime.errors import EngineRaised
from runtime.interpreters.__main__ import main
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.recipe import Recipe
from runtime.processes.spares import Spares
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


def engine(packages, name):
    return PackageEngine(str(packages / name), "model", "model.pkl")


def test_items_are_arguments_and_rows_are_arrays(packages):
    weight = torch.jit.load(packages / "simple_jit").weight.detach().numpy()
    item = np.ones((10, 20), np.float32)
    (row, same) = engine(packages, "simple").infer([(item,), item])
    assert isinstance(row, np.ndarray) and np.array_equal(row, weight + 1) and np.array_equal(same, row)
    ((a, b),) = engine(packages, "batched").infer([(np.arange(3), np.float32(2))])
    assert a.tolist() == [0, -1, -2] and b == -2 and type(b) is float
    counter = engine(packages, "counter")
    assert counter.infer([("count",), ("nested",)]) == [1, {"parts": [(1, 2.5), [], {"x": {1}}], b"raw": None}]


def test_no_engine(packages):
    for name, module, file in (("simple", "model", "none.pkl"), ("none", "model", "model.pkl")):
        with pytest.raises(EngineError, match="cannot be loaded") as caught:
            PackageEngine(str(packages / name), module, file)
        assert len(str(caught.value).splitlines()) == 1


async def test_a_package_in_a_process_runner(packages):
    settings = {"path": str(packages / "simple"), "module": "model", "file": "model.pkl", "threads": 1}
    recipe = Recipe("simple", "models.packages:PackageEngine", settings, ("models.packages",))
    spares = Spares()
    runner = ProcessRunner("simple", recipe, ProcessLimits(loaded_spares=0), spares)
    try:
        await runner.start()
        item = np.ones((10, 20), np.float32)
        rows = await runner.run([item, item * 2])
        assert np.allclose(rows[1] - rows[0], item)
        with pytest.raises(EngineRaised, match="RuntimeError"):
            await runner.run([np.ones((3, 3), np.float32)])
        assert np.array_equal((await runner.run([item]))[0], rows[0])
    finally:
        await runner.close()
        await spares.close()
