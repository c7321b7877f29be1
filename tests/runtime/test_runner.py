"""An engine on a thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from models.engines.base import EngineOptions
from models.errors import EngineError
from runtime.runner import ThreadRunner
from tests.runtime.fakes import DoublerModel


async def test_the_engine_is_loaded_warmed_up_run_and_closed_on_one_thread():
    model = DoublerModel()
    runner = ThreadRunner(model, EngineOptions())
    assert runner.facts is None
    await runner.start()
    assert runner.facts.notices == ("watch out",)
    assert await runner.run([1, 2]) == [2, 4]
    await runner.close()
    first, thread, last = model.engine.calls
    assert (first, last) == ("warm_up", "close")
    assert thread.startswith("engine-double")


async def test_it_says_since_when_it_is_busy():
    model, now = DoublerModel(), [5.0]
    runner = ThreadRunner(model, EngineOptions(), clock=lambda: now[0])
    await runner.start()
    model.engine.gate.clear()
    running = asyncio.ensure_future(runner.run([1]))
    await asyncio.sleep(0)
    now[0] = 9.0
    assert runner.busy_since == 5.0
    model.engine.gate.set()
    await running
    assert runner.busy_since is None
    with pytest.raises(RuntimeError, match="poison"):
        await runner.run(["poison"])
    assert runner.busy_since is None
    await runner.close()


async def test_a_model_that_does_not_load_leaves_nothing_to_close():
    runner = ThreadRunner(DoublerModel(error=EngineError("x: damaged")), EngineOptions())
    with pytest.raises(EngineError, match="damaged"):
        await runner.start()
    await runner.close()


async def test_its_thread_begins_as_it_is_told():
    begun = []
    runner = ThreadRunner(
        DoublerModel(), EngineOptions(), begin=lambda: begun.append(threading.current_thread().name)
    )
    await runner.start()
    await runner.close()
    assert [name.startswith("engine-double") for name in begun] == [True]
