"""Packages in processes of their own: what their code does reaches nobody else."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import numpy as np
import pytest

from batching import ItemFailed
from models.engines.base import EngineOptions
from models.errors import BundleError, EngineError
from models.images.preprocess import Preprocessor
from runtime.batch_limit import BatchLimit
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.errors import EngineDied, ModelRaised, UnsupportedOutput
from runtime.inputs import Arguments
from runtime.kinds.package_model import open_package_model
from runtime.kinds.tensor_model import open_tensor_model
from runtime.phases import PhaseClock
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.spares import Spares
from tests.runtime import programs
from tests.runtime.packaged import ONES, OnLoad, Told, write


@pytest.fixture
async def deploy(tmp_path):
    """Deploys a package with one object, on one process."""
    pool, spares, deployed = CpuPool(1), Spares(), []

    async def start(found, saved_as=("model", "model.pkl"), **settings):
        file = write(tmp_path / f"m{len(deployed)}.pt", found, saved_as)
        if settings:
            file.with_suffix(".json").write_text(json.dumps(settings))
        model = open_package_model("m", file, Preprocessor)
        runner = ProcessRunner(
            "m", model.recipe(EngineOptions(device="cpu")), ProcessLimits(loaded_spares=0), spares
        )
        deployment = Deployment(model, runner, pool, Batching(1, limit=BatchLimit(None, 60.0)))
        deployed.append(deployment)
        await deployment.start()
        return deployment

    yield start
    for each in deployed:
        await each.close()
    await spares.close()
    pool.close()


async def tree(deployment, *values):
    return (await deployment.infer(Arguments(values), PhaseClock(time.monotonic))).tree


async def cause(deployment, *values):
    with pytest.raises(ItemFailed) as failed:
        await tree(deployment, *values)
    return failed.value.__cause__


async def test_an_object_of_a_package_takes_and_returns_nested_values(deploy):
    deployment = await deploy(Told())
    found = await tree(deployment, "add", np.float64([[1, 2]]), 3)
    assert found["sum"].dtype == np.float64 and found["sum"].tolist() == [[4.0, 5.0]]
    assert found["parts"][0].tolist() == [[1.0], [2.0]] and found["parts"][1] == (1, "a", None)
    first = await tree(deployment, "keep", ONES)
    again = await tree(deployment, "keep", ONES * 7)
    assert first.tolist() == again.tolist() == [[1.0, 1.0]], "what it keeps is its own"
    assert await tree(deployment, "count") == 4
    assert deployment.model.document(deployment.runner.facts, True)["pickle"] == ("model", "model.pkl")
    assert "torch.package on cpu (one call at a time)" in deployment.model.describe(deployment.runner.facts)


async def test_errors_are_the_packages_first_line_and_the_process_goes_on(deploy):
    deployment = await deploy(Told())
    (pid,) = deployment.runner.pids
    for values, kind, text in [
        (("raises",), ModelRaised, "it was told"),
        (("add", ONES), ModelRaised, "Told.add() missing 1 required positional argument: 'y'"),
        (("returns", "set"), UnsupportedOutput, "The model returned a value of type set."),
        (("returns", "complex"), UnsupportedOutput, "The model returned a tensor of torch.complex64."),
        (("returns", "keys"), UnsupportedOutput, "The model returned a dict whose keys are not text."),
        (("returns", "meta"), ModelRaised, "Cannot copy out of meta tensor; no data!"),
        (("circle",), ModelRaised, "maximum recursion depth exceeded"),
    ]:
        found = await cause(deployment, *values)
        assert type(found) is kind and str(found).startswith(text) and "\n" not in str(found), (values, found)
    assert await tree(deployment, "count") == 8 and deployment.runner.pids == [pid]


async def test_what_it_prints_is_logged_and_not_printed_here(deploy, caplog, capfd):
    caplog.set_level(logging.DEBUG, "snapserve")
    deployment = await deploy(Told())
    assert await tree(deployment, "prints") is None
    await deployment.close()
    logged = {(each.levelname, each.message) for each in caplog.records}
    assert {("DEBUG", "engine m: hello from the package"), ("WARNING", "engine m: careful")} <= logged
    assert "hello" not in "".join(capfd.readouterr())


async def test_code_that_ends_its_process_fails_its_own_request_alone(deploy):
    deployment = await deploy(Told())
    for word in ("exits", "dies"):
        before, after = tree(deployment, "add", ONES, 1), tree(deployment, "add", ONES, 2)
        before, died, after = await asyncio.gather(before, cause(deployment, word), after)
        assert type(died) is EngineDied
        assert (before["sum"].tolist(), after["sum"].tolist()) == ([[2.0, 2.0]], [[3.0, 3.0]])


async def test_code_that_forks_is_answered_once(deploy):
    deployment = await deploy(Told())
    (pid,) = deployment.runner.pids
    assert [await tree(deployment, word) for word in ("forks", "forks_and_raises") * 2] == ["once"] * 4
    assert await tree(deployment, "count") == 5 and deployment.runner.pids == [pid]


async def test_code_that_misbehaves_while_it_is_loaded(deploy):
    for found, text in [
        (OnLoad("exit"), "while it was loaded, the process of the engine ended with exit code 1"),
        (OnLoad("raise"), "model model.pkl cannot be loaded: ValueError: not today"),
        (OnLoad("nothing"), "TypeError: an object of type int cannot be called"),
    ]:
        with pytest.raises(EngineError) as refused:
            await deploy(found)
        assert text in str(refused.value) and "\n" not in str(refused.value)
    assert await tree(await deploy(OnLoad("fork"))) == 1


async def test_settings_name_the_pickle(deploy):
    deployment = await deploy(Told(), ("other", "told.pkl"), pickle=["other", "told.pkl"], device="cpu")
    assert await tree(deployment, "count") == 1
    with pytest.raises(EngineError, match=r"model model\.pkl cannot be loaded"):
        await deploy(Told(), ("other", "told.pkl"))


@pytest.mark.parametrize("pickle", ["model", ["model"], ["model", 1], {"model": "x"}])
def test_settings_that_make_no_sense(tmp_path, pickle):
    file = write(tmp_path / "m.pt", Told())
    file.with_suffix(".json").write_text(json.dumps({"pickle": pickle}))
    with pytest.raises(BundleError, match=r"m\.json: pickle"):
        open_package_model("m", file, Preprocessor)
    other = programs.save(programs.Id(), tmp_path / "m.pt")
    with pytest.raises(BundleError, match="unknown field 'pickle'"):
        open_tensor_model("m", other, Preprocessor)


def test_a_package_never_runs_on_a_thread(tmp_path):
    marker = tmp_path / "ran"
    model = open_package_model("m", write(tmp_path / "m.pt", OnLoad("touch", str(marker))), Preprocessor)
    with pytest.raises(EngineError, match="process of its own"):
        model.load(EngineOptions(device="cpu"))
    assert not marker.exists()


def test_what_is_no_package_or_damaged_is_refused_by_its_file(tmp_path):
    whole = write(tmp_path / "m.pt", Told()).read_bytes()
    changed = bytearray(whole)
    changed[whole.index(b"class Told")] ^= 0xFF
    scripted = programs.save(programs.Id(), tmp_path / "t.pt").read_bytes()
    for number, content in enumerate([b"", whole[:-100], bytes(changed), scripted]):
        file = tmp_path / f"{number}.pt"
        file.write_bytes(content)
        with pytest.raises(EngineError, match=file.name):
            open_package_model("m", file, Preprocessor)
    with pytest.raises(EngineError, match=r"a torch\.package; it is served from --model-store"):
        open_tensor_model("m", tmp_path / "m.pt", Preprocessor)
