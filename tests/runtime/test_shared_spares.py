"""Engines that share a spare process: real processes, with handlers instead of engines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal

import psutil

from runtime.process_runner import ProcessRunner
from runtime.processes.recipe import Recipe
from tests.processes import lives
from tests.runtime.test_process_runner import HANDLERS, ONE, spare_processes, until


def runner(spares, name="obedient", *preload):
    return ProcessRunner(name, Recipe(name, f"{HANDLERS}:Obedient", {}, preload), ONE, spares)


def spares_running():
    """Process ids of the spare processes, all of them: no other test leaves any."""
    named = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it is ending
            if "runtime.processes.main" in each.cmdline():
                named.append(each.pid)
    return named


async def started(spares, *words):
    made = runner(spares, *words)
    await made.start()
    return made


async def parent_of_child(runner):
    (pid,) = await runner.run(["pid"])
    return psutil.Process(pid).ppid()


async def test_a_second_model_is_forked_from_the_same_process():
    async with spare_processes() as spares:
        first = await started(spares, "first")
        (spare,) = spares_running()
        second = await started(spares, "second")
        assert spares_running() == [spare]
        assert await parent_of_child(first) == await parent_of_child(second) == spare
        await first.close()
        assert await second.run([["echo", 1]]) == [1]
        await second.close()


async def test_models_that_start_together_share_one_too():
    async with spare_processes() as spares:
        runners = await asyncio.gather(*(started(spares, f"model {number}") for number in range(4)))
        assert len(spares_running()) == 1
        await asyncio.gather(*(each.close() for each in runners))


async def test_other_modules_are_imported_in_another_process():
    async with spare_processes() as spares:
        plain = await started(spares, "plain")
        with_wave = await started(spares, "with wave", "wave")
        assert len(spares_running()) == 2
        assert "wave" in (await with_wave.run(["modules"]))[0]
        assert "wave" not in (await plain.run(["modules"]))[0]
        await plain.close()
        await with_wave.close()


async def test_a_model_that_is_loaded_soon_after_the_last_one_left_finds_the_process():
    async with spare_processes() as spares:
        first = await started(spares)
        before = spares_running()
        await first.close()
        second = await started(spares)
        assert spares_running() == before
        await second.close()


async def test_a_process_that_no_model_uses_ends_after_a_while():
    async with spare_processes(kept_s=0) as spares:
        first, second = await started(spares), await started(spares)
        (spare,) = spares_running()
        await first.close()
        await asyncio.sleep(0)
        assert await parent_of_child(second) == spare
        await second.close()
        await until(lambda: not lives(spare))
        third = await started(spares)
        assert spares_running() not in ([], [spare])
        await third.close()


async def test_no_batch_fails_when_the_process_dies():
    async with spare_processes() as spares:
        first, second = await started(spares), await started(spares)
        (spare,) = spares_running()
        os.kill(spare, signal.SIGSTOP)
        children = [await each.run(["pid"]) for each in (first, second)]
        for (child,) in children:
            os.kill(child, signal.SIGSTOP)
        batches = [asyncio.ensure_future(first.run(["pid"])), asyncio.ensure_future(second.run(["pid", "pid"]))]
        await asyncio.sleep(0)
        os.kill(spare, signal.SIGKILL)
        (answer,), (one, same) = await asyncio.gather(*batches)
        assert one == same
        assert [answer] not in children and [one] not in children
        assert not first._suspects._entries and not second._suspects._entries
        assert len(spares_running()) == 1
        assert psutil.Process(answer).ppid() == psutil.Process(one).ppid() != spare
        await first.close()
        await second.close()


async def test_what_a_child_prints_is_logged_with_its_own_model(caplog):
    caplog.set_level(logging.DEBUG, "snapserve")
    async with spare_processes() as spares:
        first, second = await started(spares, "first"), await started(spares, "second")
        await first.close()
        await second.close()
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("engine first: a line of noise") == lines.count("engine second: a line of noise") == 1
