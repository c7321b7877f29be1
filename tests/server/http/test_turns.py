"""Work in pieces."""

from __future__ import annotations

import asyncio

from server.http.turns import TURN_S, Turns


async def test_steps_alternate_and_a_turn_of_the_loop_ends_in_time():
    now, log, turn = 0.0, [], 0

    def step(name, times):
        left = times

        def run():
            nonlocal now, left
            now += TURN_S / 2
            left -= 1
            log.append((turn, name))
            return left > 0

        return run

    turns = Turns(lambda: now)
    assert not turns.busy
    turns.add(step("a", 3))
    turns.add(step("b", 2))
    assert turns.busy
    while turns.busy:
        await asyncio.sleep(0)
        turn += 1
    assert [name for _, name in log] == ["a", "b", "a", "b", "a"]
    assert [turn for turn, _ in log] == [0, 0, 1, 1, 2]
