"""What a process prints, in the log of its parent."""

from __future__ import annotations

import asyncio
import logging
import os

from runtime.processes import log_relay
from runtime.processes.log_relay import LogRelay


async def test_lines_have_their_levels_and_the_last_one_is_known(caplog):
    caplog.set_level(logging.DEBUG)
    relay = LogRelay("m")
    os.write(relay.descriptor, b"hello\nWARNING:careful\nERROR:bad\nno end")
    relay.close()
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("DEBUG", "m: hello"),
        ("WARNING", "m: careful"),
        ("ERROR", "m: bad"),
    ]
    assert relay.last_line == "bad"


async def test_a_process_that_prints_without_end_leaves_time_for_others(caplog, monkeypatch):
    """An empty line is one byte: the event loop gets its turn after some thousands of them."""
    lines, loop = [], asyncio.get_running_loop()
    relay = LogRelay("m")
    monkeypatch.setattr(relay, "_log", lines.append)
    os.write(relay.descriptor, b"\n" * 65_536)
    before, most = 0, 0
    while len(lines) < 65_536:
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
        most, before = max(most, len(lines) - before), len(lines)
    assert most <= 8192
    os.write(relay.descriptor, b"\n" * 65_534 + b"x\n")
    relay.close()
    assert len(lines) == 131_071 and lines[-1] == "x", "what was printed before the end is not lost"


async def test_of_a_line_without_end_only_the_last_part_is_kept(monkeypatch):
    monkeypatch.setattr(log_relay, "_LONGEST_LINE", 16)
    relay = LogRelay("m")
    os.write(relay.descriptor, b"a" * 100 + b"b\n")
    relay.close()
    assert relay.last_line == "a" * 14 + "b"
