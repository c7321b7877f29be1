"""Programs of any signature beside image classifiers: they load, and `/classify` says that they are none."""

from __future__ import annotations

import numpy as np
import pytest

from models.bundles.bundle import ModelBundle
from runtime.errors import ModelRefused
from runtime.inputs import Arguments
from runtime.model_set import AddedModel
from runtime.phases import PhaseClock
from tests.conftest import flat
from tests.runtime import programs
from tests.runtime.packaged import ONES, OnLoad, Told, write
from tests.server.conftest import problem_of


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    programs.save(programs.Two(), folder / "two.pt")
    write(folder / "told.pt", Told())
    write(folder / "exits.pt", OnLoad("exit"))
    return folder


async def change(control, models):
    await control.prepare(models)
    await control.commit()


def added(name, path, **settings):
    return AddedModel(name, "1", path, kind="tensor", **settings)


async def test_a_program_is_added_called_and_no_image_classifier(start, store):
    server = await start(model_store=str(store))
    control, before = server.service.control, server.service.control.committed
    await change(control, before.with_model(added("two", "two.pt", runner="thread")))
    async with server.service.context.store.use("two") as deployment:
        value = await deployment.infer(Arguments((ONES, ONES)), PhaseClock())
    assert np.array_equal(value.tree, ONES + ONES)
    for query in ("model=two", "model=two&top_k=3", "model=two&version=1"):
        async with server.post(flat(3), f"/classify?{query}") as response:
            problem = await problem_of(response, 422)
            assert problem["detail"] == "The model two is no image classifier."
    for path in ("/models", "/models/two"):
        async with server.session.get(server.url + path) as response:
            assert response.status == 200 and "torchscript" in await response.text()
    async with server.post(flat(3)) as response:
        assert response.status == 200
    await change(control, before)


async def test_a_package_is_added_with_allow_code_alone(start, store, hash_bundle):
    refusing = (await start(model_store=str(store))).service.control
    with pytest.raises(ModelRefused, match=r"told\.pt: a torch.package is a program; --allow-code lets it run"):
        await refusing.prepare(refusing.committed.with_model(added("told", "told.pt")))
    bundle = ModelBundle.load(hash_bundle.file.parent)
    server = await start({"hash": bundle}, model_store=str(store), allow_code=True, engine_spares=0)
    control, before = server.service.control, server.service.control.committed
    with pytest.raises(ModelRefused, match="while it was loaded"):
        await control.prepare(before.with_model(added("exits", "exits.pt")))
    await change(control, before.with_model(added("told", "told.pt", runner="thread")))
    async with server.service.context.store.use("told") as deployment:
        assert (await deployment.infer(Arguments(("count",)), PhaseClock())).tree == 1
        assert len(deployment.runner.pids) == 1, "in a process, whatever was asked for"
    async with server.post(flat(3), "/classify?model=told") as response:
        await problem_of(response, 422)
    await change(control, before)
