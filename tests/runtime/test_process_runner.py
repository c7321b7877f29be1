"""An engine in processes of its own: real ones, with handlers instead of engines, so that no torch is loaded."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import runtime.process_runner
from batching import Batcher, BatchPolicy, ItemFailed
from models.errors import EngineError
from runtime.errors import EngineDied, EngineFault, EngineRaised, EngineTimeout, EngineUnavailable
from runtime.memory import processes_bytes
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.child import REASONS
from runtime.processes.recipe import Recipe
from runtime.processes.spares import Spares
from tests.conftest import ROOT
from tests.processes import lives, outlive

HANDLERS = "tests.runtime.processes.handlers"
DEFAULT = ProcessLimits()
ONE = ProcessLimits(loaded_spares=0)


def recipe(target="Obedient", **settings):
    return Recipe("obedient", f"{HANDLERS}:{target}", settings)


@contextlib.asynccontextmanager
async def running(limits=DEFAULT, observer=None, limit_s=math.inf, **settings):
    """A runner that has started; afterwards none of its processes is left."""
    async with spare_processes() as spares:
        runner = ProcessRunner("obedient", recipe(**settings), limits, spares, observer)
        runner.limit_s = limit_s
        try:
            await runner.start()
            yield runner
        finally:
            await runner.close()


@contextlib.asynccontextmanager
async def spare_processes(**settings):
    """What runners are given; afterwards no process is left that did not exist before."""
    others = psutil.Process().children(recursive=True)
    spares = Spares(**settings)
    try:
        yield spares
    finally:
        seen = [each for each in psutil.Process().children(recursive=True) if each not in others]
        await spares.close()
        assert outlive(seen) == []


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_rows_come_back_in_the_order_of_the_items():
    async with running() as runner:
        assert runner.facts.spec.kind == "handler"
        rows = await runner.run([np.arange(3), b"abc", ["echo", {"a": 1.5}], np.ones((2, 2), np.float32)])
        assert rows[0].tolist() == [0, 2, 4]
        assert rows[1:3] == [b"cba", {"a": 1.5}]
        assert rows[3].dtype == np.float32
        large = [np.full((300, 300, 3), value, np.uint8) for value in range(20)]
        doubled = await runner.run(large)
        assert [row[0, 0, 0] for row in doubled] == [2 * value for value in range(20)]
        assert rows[0].tolist() == [0, 2, 4], "a row is not written over by a later batch"


async def test_the_child_has_neither_http_nor_server_and_a_session_of_its_own():
    async with running() as runner:
        (modules,), (pid,) = await runner.run(["modules"]), await runner.run(["pid"])
        assert not {"aiohttp", "server", "uvloop", "torch", "prometheus_client"} & set(modules)
        assert os.getsid(pid) == pid != os.getsid(0)


async def test_an_engine_that_raises_is_told_so_and_goes_on():
    async with running(ONE) as runner:
        before = await runner.run(["pid"])
        with pytest.raises(EngineRaised, match="RuntimeError: poison") as caught:
            await runner.run(["fail"])
        assert "handlers.py" in str(caught.value.__cause__), "the traceback of the child"
        with pytest.raises(EngineRaised, match="TypeError"):
            await runner.run([["echo"]])
        assert await runner.run(["pid"]) == before


async def test_a_process_that_dies_is_replaced():
    async with running(ONE) as runner:
        before = await runner.run(["pid"])
        with pytest.raises(EngineDied, match="SIGSEGV"):
            await runner.run(["crash"])
        assert await runner.run(["pid"]) != before


async def test_a_process_that_hangs_is_killed_and_replaced():
    async with running(ONE, limit_s=0.3) as runner:
        before = await runner.run(["pid"])
        with pytest.raises(EngineTimeout):
            await runner.run(["hang"])
        assert runner.busy_since is None
        assert await runner.run(["pid"]) != before
        await until(lambda: not lives(before[0]))


async def test_an_item_that_kills_is_refused_alone_and_the_third_time_without_a_process():
    async with running() as runner:
        batcher = Batcher(runner.run, BatchPolicy(8))
        items = [["echo", value] for value in range(7)]
        answers = await asyncio.gather(
            *(batcher.submit(item) for item in [*items[:3], ["crash", 1], *items[3:]]), return_exceptions=True
        )
        failed = answers.pop(3)
        assert isinstance(failed, ItemFailed) and isinstance(failed.__cause__, EngineDied)
        assert [answer.value for answer in answers] == list(range(7))
        assert len(runner._suspects._entries) == 1, "the others ran well and are no suspects"
        (pid,) = await runner.run(["pid"])
        with pytest.raises(ItemFailed) as refused:
            await batcher.submit(["crash", 1])
        assert "refused" in str(refused.value.__cause__)
        assert await runner.run(["pid"]) == [pid]


async def test_an_item_is_answered_though_its_process_is_killed_by_someone_else():
    async with running(ONE) as runner:
        (pid,) = await runner.run(["pid"])
        os.kill(pid, signal.SIGSTOP)
        answer = asyncio.ensure_future(runner.run(["pid"]))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        (other,) = await answer
        assert other != pid


async def test_an_idle_process_that_is_killed_is_replaced_too():
    async with running() as runner:
        (pid,) = await runner.run(["pid"])
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not lives(pid))
        assert await runner.run(["pid"]) != [pid]


async def test_a_process_that_has_ended_unnoticed_does_not_take_a_batch():
    async with running(ONE) as runner:
        (pid,) = await runner.run(["pid"])
        os.kill(pid, signal.SIGKILL)
        while lives(pid):  # the event loop stands still, and hears of nothing
            time.sleep(0.01)  # noqa: ASYNC251
        assert await runner.run([["echo", 1]]) == [1]
        assert not runner._suspects._entries


async def test_the_spare_process_is_replaced_with_its_children():
    async with running() as runner:
        (pid,) = await runner.run(["pid"])
        spare = psutil.Process(pid).parent()
        assert spare.pid == runner._children.spare.pid
        spare.kill()
        await until(lambda: not lives(pid))
        (other,) = await runner.run(["pid"])
        assert psutil.Process(other).parent().pid != spare.pid


async def test_several_processes_run_several_batches():
    async with running(ProcessLimits(processes=2, loaded_spares=0), limit_s=1) as runner:
        assert len(runner.pids) == 2, "a start ends when all have loaded"
        await until(lambda: len(runner._idle) == 2)
        hanging = asyncio.ensure_future(runner.run(["hang"]))
        await until(lambda: len(runner._idle) == 1)
        assert await runner.run([["echo", 5]]) == [5]
        with pytest.raises(EngineTimeout):
            await hanging


async def test_a_lost_device_takes_the_process_with_it():
    async with running() as runner:
        (pid,) = await runner.run(["pid"])
        with pytest.raises(EngineRaised, match="CUDA error"):
            await runner.run(["device_lost"])
        await until(lambda: not lives(pid))
        assert await runner.run(["pid"]) != [pid]


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts all memory on Linux only")
async def test_the_memory_of_a_process_is_limited():
    async with running(ProcessLimits(loaded_spares=0, memory_mb=200)) as runner:
        assert await runner.run([["allocate", 100]]) == [100 << 20]
        with pytest.raises(EngineRaised, match="MemoryError"):
            await runner.run([["allocate", 300]])
        assert await runner.run([["allocate", 100]]) == [100 << 20]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_engine", "x.pt: damaged"),
        ("crashing", "obedient: while it was loaded, the process of the engine ended with SIGSEGV"),
        ("missing", "obedient: AttributeError: module .* has no attribute 'missing'"),
    ],
)
async def test_what_does_not_load_is_an_engine_error_and_leaves_no_process(target, message):
    async with spare_processes() as spares:
        runner = ProcessRunner("obedient", recipe(target), DEFAULT, spares)
        with pytest.raises(EngineError, match=message):
            await runner.start()
        assert psutil.Process(runner._children.spare.pid).children() == []


async def test_an_engine_that_does_not_start_again_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime.process_runner, "_PATIENCE_S", 0.1)
    (tmp_path / "flag").touch()
    async with running(ONE, flag=str(tmp_path / "flag")) as runner:
        (pid,) = await runner.run(["pid"])
        assert runner.unavailable() is None
        (tmp_path / "flag").unlink()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not lives(pid))
        with pytest.raises(EngineUnavailable) as caught:
            await runner.run(["pid"])
        assert 0.1 < caught.value.retry_after_s <= 0.5
        assert 0 <= runner.unavailable().retry_after_s <= 0.5
        (tmp_path / "flag").touch()
        await until(lambda: runner._idle)
        assert runner.unavailable() is None
        (other,) = await runner.run(["pid"])
        assert other != pid
        spare = psutil.Process(runner._children.spare.pid)
        assert [each.pid for each in spare.children()] == [other], "none is left of the failed starts"


async def test_what_a_handler_has_started_ends_with_it():
    async with running(ONE) as runner:
        (other,) = await runner.run(["start_another"])
        with pytest.raises(EngineDied):
            await runner.run(["crash"])
        await until(lambda: not lives(other))


async def test_a_process_whose_fork_nobody_waits_for_any_more_ends():
    async with running(ONE) as runner:
        spare = psutil.Process(runner._children.spare.pid)
        spare.suspend()
        loading = asyncio.ensure_future(runner._children.load())
        await until(lambda: runner._children.spare._forks)
        loading.cancel()
        await asyncio.wait([loading])
        spare.resume()
        child, _ = await runner._children.load()  # orders are obeyed in turn
        await until(lambda: len(spare.children()) == 2)
        assert {child.pid, *await runner.run(["pid"])} == {each.pid for each in spare.children()}


async def test_a_batch_that_nobody_waits_for_any_more_ends_its_process():
    async with running(ONE) as runner:
        (pid,) = await runner.run(["pid"])
        hanging = asyncio.ensure_future(runner.run(["hang"]))
        await asyncio.sleep(0.05)
        hanging.cancel()
        await until(lambda: not lives(pid))
        assert await runner.run(["pid"]) != [pid]


class Ended(list):
    """Reasons of processes that ended."""

    def process_ended(self, reason):
        assert reason in REASONS
        self.append(reason)


async def test_why_processes_end_is_told(tmp_path, caplog):
    ended, flag = Ended(), tmp_path / "flag"
    flag.touch()
    async with running(ONE, ended, limit_s=0.5, flag=str(flag)) as runner:

        async def after(reason):
            await until(lambda: ended and ended[-1] == reason and runner._idle)
            assert runner.processes == 1

        for item, reason in (("hang", "timeout"), ("crash", "signal"), ("leave", "exit"), ("end", "exit")):
            with pytest.raises(EngineFault):
                await runner.run([item])
            await after(reason)
        assert "the engine's process failed: SystemExit: 3" in caplog.text
        (pid,) = await runner.run(["pid"])
        os.kill(pid, signal.SIGKILL)
        await after("killed")
        hanging = asyncio.ensure_future(runner.run(["hang"]))
        await asyncio.sleep(0)
        hanging.cancel()
        await after("cancelled")
        psutil.Process(runner._children.spare.pid).kill()
        await after("spare")
        (pid,) = await runner.run(["pid"])
        flag.unlink()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: ended[-1] == "load")
        assert runner.processes == 0
        flag.touch()
        told = list(ended)
    assert ended[: len(told)] == told, "those of a runner that is closed are not counted"


PARENT = f"""
import asyncio
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.recipe import Recipe
from runtime.processes.spares import Spares

async def main():
    runner = ProcessRunner("obedient", Recipe("obedient", "{HANDLERS}:Obedient"), ProcessLimits(), Spares())
    await runner.start()
    print("ready", flush=True)
    await runner.run(["hang"])

asyncio.run(main())
"""


def test_no_process_outlives_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
    assert outlive(children) == []


async def test_it_names_its_processes():
    async with running(ProcessLimits(loaded_spares=1)) as runner:
        await until(lambda: len(runner.pids) == 2)
        spare = psutil.Process(runner.pids[0]).parent()  # which others share
        assert sorted(runner.pids) == sorted(each.pid for each in spare.children())
        assert processes_bytes(runner.pids) > 2 << 20
    assert runner.pids == []


async def test_it_grows_and_shrinks_while_batches_run():
    async with running(ProcessLimits(loaded_spares=0)) as runner:
        batcher = Batcher(runner.run, BatchPolicy(1))
        assert runner.places == 1
        await runner.scale(3)
        batcher.set_concurrency(3)
        assert len(runner.pids) == 3
        await until(lambda: sorted(runner.pids_by_place) == sorted(runner.pids))
        first, seen = runner.pids_by_place[0], set(runner.pids)
        busy = [asyncio.ensure_future(batcher.submit(["nap"])) for _ in range(3)]
        await until(lambda: batcher.batches_in_flight == 3)
        await runner.scale(1)
        batcher.set_concurrency(1)
        assert {(await each).value for each in busy} == seen, "each batch has its answer"
        await until(lambda: len(runner.pids) == 1)
        assert runner.pids_by_place == [first]
        assert (await batcher.submit(["pid"])).value == runner.pids[0]
        await batcher.close()


async def test_a_process_that_does_not_load_leaves_the_others_as_they_were(tmp_path):
    flag = tmp_path / "flag"
    flag.touch()
    async with running(ProcessLimits(loaded_spares=0), flag=str(flag)) as runner:
        flag.unlink()
        with pytest.raises(EngineError):
            await runner.scale(2)
        assert runner.places == 1
        assert await runner.run(["pid"]) == runner.pids
