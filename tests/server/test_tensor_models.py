"""Programs of any signature beside image classifiers: they load, and `/classify` says that they are none."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest

from runtime.added_model import AddedModel
from runtime.errors import ModelRefused
from runtime.inputs import Arguments
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


@contextlib.asynccontextmanager
async def serving(server, path, **settings):
    """A program as the model `t`, which is removed afterwards."""
    control = server.service.control
    before = control.committed
    await control.prepare(before.with_model(AddedModel("t", "1", path, kind="tensor", **settings)))
    await control.commit()
    try:
        async with server.service.context.store.use("t") as deployment:
            yield deployment
    finally:
        await control.prepare(before)
        await control.commit()


async def called(deployment, *values):
    return (await deployment.infer(Arguments(values), PhaseClock(time.monotonic))).tree


async def test_a_program_is_added_and_called_and_is_no_image_classifier(start, store):
    server = await start(model_store=str(store))
    async with serving(server, "two.pt", runner="thread") as deployment:
        assert np.array_equal(await called(deployment, ONES, ONES), ONES + ONES)
        for query in ("model=t", "model=t&top_k=3", "model=t&version=1"):
            async with server.post(flat(3), f"/classify?{query}") as response:
                problem = await problem_of(response, 422)
                assert problem["detail"] == "The model t is no image classifier."
        for path in ("/models", "/models/t"):
            async with server.session.get(server.url + path) as response:
                assert response.status == 200 and "torchscript" in await response.text()
        async with server.post(flat(3)) as response:
            assert response.status == 200


async def test_a_package_is_added_with_allow_code_alone(start, store):
    server = await start(model_store=str(store))
    with pytest.raises(ModelRefused, match=r"told\.pt: a torch.package is a program; --allow-code lets it run"):
        async with serving(server, "told.pt"):
            pass
    server = await start(model_store=str(store), allow_code=True, engine_spares=0)
    with pytest.raises(ModelRefused, match="while it was loaded"):
        async with serving(server, "exits.pt"):
            pass
    async with serving(server, "told.pt", runner="thread") as deployment:
        assert await called(deployment, "count") == 1
        assert len(deployment.runner.pids) == 1, "in a process, whatever was asked for"
        async with server.post(flat(3), "/classify?model=t") as response:
            await problem_of(response, 422)
