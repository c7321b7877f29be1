"""A spare process exists while it may be needed, and is used once."""

from __future__ import annotations

import asyncio
import types

import pytest

from server.workers.spare import KEPT_S, Spare


class FakeProcess:
    def __init__(self):
        self.process = types.SimpleNamespace(returncode=None)

    def kill(self):
        self.process.returncode = -9


class Spawner:
    """Makes processes; a clock beside it."""

    def __init__(self):
        self.made, self.now, self.fails = [], 100.0, False
        self.spare = Spare(self, clock=lambda: self.now)

    async def __call__(self):
        if self.fails:
            raise BlockingIOError("no more processes")
        self.made.append(FakeProcess())
        return self.made[-1]


@pytest.fixture
def spawner():
    return Spawner()


async def test_there_is_none_before_it_is_wanted(spawner):
    assert await spawner.spare.take() is None
    assert spawner.made == []


async def test_it_is_started_once_and_used_once(spawner):
    for _ in range(3):
        spawner.spare.want()
        await asyncio.sleep(0)
    assert await spawner.spare.take() is spawner.made[0]
    assert await spawner.spare.take() is None
    assert len(spawner.made) == 1


async def test_one_that_has_ended_is_not_used(spawner):
    spawner.spare.want()
    await asyncio.sleep(0)
    spawner.made[0].kill()
    assert await spawner.spare.take() is None


async def test_one_that_cannot_be_started_is_none(spawner):
    spawner.fails = True
    spawner.spare.want()
    assert await spawner.spare.take() is None
    spawner.spare.want()
    await asyncio.sleep(0)
    spawner.spare.kill()


async def test_it_is_ended_a_minute_after_it_was_last_wanted(spawner):
    spawner.spare.want()
    await asyncio.sleep(0)
    spawner.now += KEPT_S
    spawner.spare.want()
    spawner.now += KEPT_S
    spawner.spare.look()
    assert spawner.made[0].process.returncode is None
    spawner.now += 1
    spawner.spare.look()
    assert spawner.made[0].process.returncode == -9
    assert await spawner.spare.take() is None
