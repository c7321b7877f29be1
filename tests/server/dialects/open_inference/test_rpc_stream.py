"""A stream of requests, without gRPC."""

from __future__ import annotations

import asyncio

from server.dialects.open_inference.rpc.stream import _MOST_AT_ONCE, Stream


async def test_few_requests_are_read_ahead_of_the_answers():
    read, gate = [], asyncio.Event()

    async def requests():
        for number in range(200):
            read.append(number)
            yield number

    async def answer(number):
        await gate.wait()
        return -number

    answers = Stream(requests(), answer).answers()
    first = asyncio.ensure_future(anext(answers))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(read) == _MOST_AT_ONCE
    gate.set()
    assert [await first, *[each async for each in answers]] == [-number for number in range(200)]
