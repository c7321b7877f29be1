"""One child as its parent sees it: the other end of its socket is in the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import numpy as np
import pytest

from models.errors import EngineError
from runtime.errors import EngineDied, EngineRaised
from runtime.processes import frames
from runtime.processes.child import Child, ChildGone
from runtime.processes.recipe import Recipe
from runtime.processes.shared import Area


@contextlib.contextmanager
def a_child():
    """A child, the other end of its socket, and the memory of its rows."""
    child = Child("obedient", kill=lambda pid: None)
    end, _, rows, _ = map(os.dup, child.theirs)
    child.forked(1)
    with socket.socket(fileno=end) as theirs:
        yield child, theirs, Area(rows)
    child.gone(None)


@contextlib.asynccontextmanager
async def asked():
    """The same, and a batch that it was sent."""
    with a_child() as (child, theirs, rows):
        answer = asyncio.ensure_future(child.run([1], 10))
        await asyncio.sleep(0)
        yield child, theirs, rows, answer


async def test_the_last_answer_counts_where_the_end_is_heard_of_first():
    async with asked() as (child, theirs, rows, answer):
        frames.send(theirs, {"id": 1, "rows": rows.write([np.arange(3), {"a": [1]}])})
        child.gone(0)
        array, tree = await answer
        assert (array.tolist(), tree, child.answered) == ([0, 1, 2], {"a": [1]}, 1)


async def test_the_last_error_counts_where_the_end_is_heard_of_first():
    async with asked() as (child, theirs, _, answer):
        frames.send(theirs, {"id": 1, "error": "RuntimeError", "text": "CUDA error", "trace": ""})
        child.gone(0)
        with pytest.raises(EngineRaised, match="RuntimeError: CUDA error"):
            await answer


async def test_an_end_in_the_middle_of_an_answer_is_a_death():
    async with asked() as (child, theirs, rows, answer):
        theirs.send(frames.packed({"id": 1, "rows": rows.write([1])})[:-1])
        child.gone(-11)
        with pytest.raises(EngineDied, match="SIGSEGV"):
            await answer


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"rows": 7},
        {"rows": [[1, "|u1", [1 << 40]]]},
        {"error": "x"},
        {"error": "x", "text": "y"},
        {"error": "x", "text": "", "trace": "", "why": "w", "code": "many"},
    ],
)
async def test_an_answer_that_is_none_ends_the_process(answer):
    """A handler may write to any descriptor of its process."""
    async with asked() as (child, theirs, _, running):
        frames.send(theirs, {"id": 1, **answer})
        with pytest.raises(EngineDied, match="the process of the engine answered with"):
            await running
        assert child.was_killed and not child.is_usable


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b"7"])
async def test_what_is_no_message_ends_the_process_at_once(body):
    async with asked() as (child, theirs, _, running):
        theirs.sendall(len(body).to_bytes(4, "big") + body)
        child.gone(-9)
        with pytest.raises(EngineDied):
            await running
        assert child.was_killed or child.ended.is_set()


@pytest.mark.parametrize("answer", [{}, {"error": "x"}, {"error": "x", "model": False, "text": None}])
async def test_an_answer_that_is_none_is_no_start(answer):
    with a_child() as (child, theirs, _):
        loading = asyncio.ensure_future(child.load(Recipe("n", "m:a", {}, ()), 0, 10))
        await asyncio.sleep(0)
        frames.send(theirs, {"id": 1, **answer})
        with pytest.raises(EngineError, match="n: while it was loaded, it answered with no message"):
            await loading
        assert child.was_killed


async def test_a_child_that_is_gone_takes_no_batch_and_touches_no_descriptor():
    with a_child() as (child, _, _):
        batch = child.theirs[1]
        child.gone(0)
        other = os.memfd_create("other")  # it may get the number that was just given back
        try:
            with pytest.raises(ChildGone):
                await child.run([b"x"], 10)
            assert os.fstat(other).st_size == 0
        finally:
            os.close(other)
        assert child.theirs[1] != batch
