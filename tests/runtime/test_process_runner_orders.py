"""Starts, scalings and ends of a runner in any order, cancelled at any await; processes and time are played."""

from __future__ import annotations

import asyncio
import contextlib
import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import EngineError
from runtime.errors import EngineUnavailable
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.child import ChildGone
from runtime.processes.recipe import Recipe
from runtime.processes.spare import SpareDied


class ClockLoop(asyncio.SelectorEventLoop):
    """Its time jumps to the next timer when nothing else is to be done."""

    ahead = 0.0

    def time(self):
        return super().time() + self.ahead

    def _run_once(self):
        timers = [each for each in self._scheduled if not each.cancelled()]
        if timers and not self._ready:
            self.ahead += max(0.0, heapq.nsmallest(1, timers)[0].when() - self.time())
        super()._run_once()


class PlayedChild:
    """A process: it loads when a test says so, and ends when it is killed, left or told to."""

    was_killed = was_orphaned = False
    report = None
    how, reason, answered = "exit code 1", "exit", 0

    def __init__(self, pid, ends_when_left):
        self.pid, self.ended, self.loading = pid, asyncio.Event(), asyncio.get_running_loop().create_future()
        self._ends_when_left, self.was_left = ends_when_left, False

    @property
    def is_usable(self):
        return not self.ended.is_set() and not self.was_killed

    async def load(self, recipe, memory_mb, limit_s):
        if await asyncio.shield(self.loading):
            raise EngineError("it does not load")

    async def run(self, batch, limit_s):
        if self.ended.is_set():
            raise ChildGone
        await asyncio.sleep(0)
        return batch

    def end(self):
        self.ended.set()
        if not self.loading.done():
            self.loading.set_result("ended")

    def leave(self):
        self.was_left = True
        if self._ends_when_left:
            self.end()

    def kill(self):
        if not self.ended.is_set():
            self.was_killed = True
            asyncio.get_running_loop().call_soon(self.end)


class PlayedSpares:
    """Where children are forked; `fails` is raised by the next fork."""

    def __init__(self, ends_when_left=True):
        self.children, self.forking, self.users, self.fails = [], [], 0, None
        self._ends_when_left, self.is_broken = ends_when_left, False

    def take(self, modules):
        self.users += 1
        return self

    def give_back(self, modules):
        self.users -= 1

    async def fork(self, name):
        if self.is_broken:
            raise SpareDied("it ended")
        if error := self.fails:
            self.fails = None
            raise error
        forking = asyncio.get_running_loop().create_future()
        self.forking.append(forking)
        await forking
        self.children.append(PlayedChild(len(self.children) + 1, self._ends_when_left))
        return self.children[-1]

    @property
    def alive(self):
        return [each for each in self.children if not each.ended.is_set()]

    async def settle(self):
        """Lets everything load that is to load."""
        for _ in range(20):
            for forking in self.forking:
                if not forking.done():
                    forking.set_result(None)
            for child in self.children:
                if not child.loading.done():
                    child.loading.set_result(None)
            await asyncio.sleep(0)


def runner_of(spares, processes=1):
    loop = asyncio.get_running_loop()
    limits = ProcessLimits(processes=processes, loaded_spares=0)
    return ProcessRunner("played", Recipe("played", "x:y"), limits, spares, clock=loop.time)


def played(test):
    """Runs a coroutine function on a loop of its own whose time jumps."""

    def run(*args, **named):
        with asyncio.Runner(loop_factory=ClockLoop) as runner:
            runner.run(test(*args, **named))

    return run


def _some(futures, number):
    waiting = [each for each in futures if not each.done()]
    return waiting[number % len(waiting)] if waiting else None


async def _play(steps, is_started, ends_when_left):
    spares = PlayedSpares(ends_when_left)
    runner = runner_of(spares, processes=2)
    work = [asyncio.ensure_future(runner.start())]
    if is_started:
        await spares.settle()
    for step, number in steps:
        match step:
            case "scale" if runner.facts is not None:
                work.append(asyncio.ensure_future(runner.scale(1 + number % 4)))
            case "cancel" if task := _some(work, number):
                task.cancel()
            case "fork" if forking := _some(spares.forking, number):
                forking.set_result(None)
            case "fork fails":
                spares.fails = (SpareDied("it ended"), OSError(24, "Too many open files"))[number % 2]
            case "load" if loading := _some([each.loading for each in spares.children], number):
                loading.set_result(None)
            case "load fails" if loading := _some([each.loading for each in spares.children], number):
                loading.set_result("failed")
            case "end" if spares.alive:
                spares.alive[number % len(spares.alive)].end()
            case "run" if runner.facts is not None:
                work.append(asyncio.ensure_future(runner.run([number])))
            case "close":
                work.append(asyncio.ensure_future(runner.close()))
            case "time":
                await asyncio.sleep(number)
        for _ in range(number % 3):
            await asyncio.sleep(0)
    return spares, runner, work


STEPS = (
    "scale",
    "cancel",
    "fork",
    "fork",
    "fork fails",
    "load",
    "load",
    "load fails",
    "end",
    "run",
    "close",
    "time",
)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), max_size=25), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_happens_places_are_kept_and_nothing_is_left(steps, is_started, ends_when_left):
    async def play():
        spares, runner, work = await _play(steps, is_started, ends_when_left)
        spares.fails = None
        for _ in range(20):
            await spares.settle()
            await asyncio.sleep(40)
        assert all(each.done() for each in work), "nothing waits for ever"
        if runner.facts is not None and runner._closing is None:
            assert len(spares.alive) == len(runner._idle) == len(runner._places) == runner.places
            assert runner.processes == runner.places and runner.unavailable() is None
            assert await runner.run([1]) == [1]
        await runner.close()
        assert (spares.alive, spares.users, runner.processes) == ([], 0, 0)
        with pytest.raises(EngineUnavailable):
            await runner.run([1])
        for each in work:
            with contextlib.suppress(asyncio.CancelledError):
                assert each.exception() is None or isinstance(each.exception(), EngineError | EngineUnavailable)

    played(play)()


async def started(spares, processes):
    runner = runner_of(spares, processes)
    starting = asyncio.ensure_future(runner.start())
    await asyncio.sleep(0)
    await spares.settle()
    await starting
    return runner


@played
async def test_a_process_is_not_lost_with_the_batch_that_was_about_to_get_it():
    runner = await started(PlayedSpares(), 1)
    child = await runner._take()
    waiting = asyncio.ensure_future(runner.run([1]))
    await asyncio.sleep(0)
    runner._give_back(child)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await asyncio.wait_for(runner.run([2]), 1) == [2]
    await runner.close()


@played
async def test_a_place_that_is_given_up_while_its_process_does_not_start_is_forgotten():
    spares = PlayedSpares()
    runner = await started(spares, 2)
    await runner._take()
    busy = await runner._take()
    assert busy is runner._serving[0]
    spares.is_broken = True
    runner._serving[1].end()
    await asyncio.sleep(20)  # the next try is far away
    await runner.scale(1)
    waiting = asyncio.ensure_future(runner.run([1]))
    await asyncio.sleep(0)
    runner._give_back(busy)
    assert await waiting == [1], "it had only to wait for the process that is left"
    await runner.close()


@played
async def test_a_process_that_is_given_up_as_soon_as_it_is_there_ends():
    spares = PlayedSpares()
    runner = await started(spares, 1)

    async def grow_and_shrink():
        await runner.scale(3)
        await runner.scale(1)

    scaling = asyncio.ensure_future(grow_and_shrink())
    await asyncio.sleep(0)
    await spares.settle()
    await scaling
    await asyncio.sleep(0.1)
    assert len(spares.alive) == runner.processes == 1
    await runner.close()


@pytest.mark.parametrize("how", ["one fails", "cancelled"])
def test_of_processes_that_load_at_once_none_stays_when_they_do_not_all_come(how):
    @played
    async def play():
        spares = PlayedSpares()
        runner = await started(spares, 1)
        scaling = asyncio.ensure_future(runner.scale(3))
        while len(spares.children) < 3:
            await asyncio.sleep(0)
            for forking in spares.forking[1:]:
                forking.done() or forking.set_result(None)
        first, second = spares.children[1:]
        first.loading.set_result(None)
        await asyncio.sleep(1)
        second.loading.set_result("failed") if how == "one fails" else scaling.cancel()
        with pytest.raises(EngineError if how == "one fails" else asyncio.CancelledError):
            await scaling
        await asyncio.sleep(10)
        assert len(spares.alive) == runner.processes == runner.places == 1
        await runner.close()

    play()
