"""The generator against servers that do each wrong thing on purpose, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import time

import numpy as np
import pytest

from benchmark.load.ceiling import bare_server
from benchmark.load.crew import run_plan
from benchmark.load.generator import generate
from benchmark.load.plan import Plan, Question, Rules, poisson

RULES = Rules(("cat", "dog"), top_k=2)
QUESTIONS = (Question("cat.jpg", b"CAT" * 500, (0.9, 0.1)), Question("dog.jpg", b"DOG" * 30_000, (0.2, 0.8)))
COUNT = 40


class Server:
    """Answers rightly, unless `fault` turns number, id and document into another status, id and document."""

    def __init__(self, fault=None, waits_for=0, hangs_up_on=None):
        self.fault, self.waits_for, self.hangs_up_on = fault, waits_for, hangs_up_on
        self.number = 0
        self.connections = 0
        self.arrived = asyncio.Event()
        self.tasks = []

    async def __call__(self, reader, writer):
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        try:
            while True:
                await self.answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    async def end(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks)

    async def answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.readexactly(int(re.search(r"Content-Length: (\d+)", head)[1]))
        number, request_id = self.number, re.search(r"X-Request-ID: (\S+)", head)[1]
        self.number += 1
        if self.number >= self.waits_for:
            self.arrived.set()
        await self.arrived.wait()
        if number == self.hangs_up_on:
            raise ConnectionError
        question = QUESTIONS[b"DOG" in body]
        document = {"request_id": request_id, "predictions": question.predictions(RULES)}
        status, echoed = 200, request_id
        if self.fault:
            status, echoed, document = self.fault(number, request_id, document)
        text = json.dumps(document).encode()
        begin = f"HTTP/1.1 {status} x\r\ncontent-length: {len(text)}\r\nx-request-id: {echoed}\r\n\r\n".encode()
        writer.write(begin + text[:7])
        await writer.drain()
        writer.write(text[7:])


async def load(server, **options):
    listening = await asyncio.start_server(server, "127.0.0.1", 0, limit=1 << 20)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    due_s = poisson(400, seed=0, requests=COUNT)
    plan = Plan(url, QUESTIONS, RULES, **{"due_s": due_s, "warm_up_s": 0, "timeout_s": 20, **options})
    try:
        return await generate(plan, time.monotonic())
    finally:
        listening.close()
        await server.end()


async def test_right_answers_are_counted_and_timed():
    tally = await load(Server())
    assert (tally.sent, tally.ok, tally.lost, tally.wrong, tally.errors.total()) == (COUNT, COUNT, 0, 0, 0)
    assert len(tally.latency_s) == len(tally.late_s) == COUNT
    assert min(tally.late_s) > 0
    assert tally.answered_per_s > 0


def other_score(number, request_id, document):
    if number == 7:
        document["predictions"][0]["score"] += 0.02
    return 200, request_id, document


def other_answer(number, request_id, document):
    if number == 7:
        right = document["predictions"]
        document["predictions"] = next(
            each.predictions(RULES) for each in QUESTIONS if each.predictions(RULES) != right
        )
    return 200, request_id, document


def other_id_in_head(number, request_id, document):
    return 200, "x" if number == 7 else request_id, document


def other_id_in_body(number, request_id, document):
    return 200, request_id, {**document, "request_id": "x"} if number == 7 else document


@pytest.mark.parametrize("fault", [other_score, other_answer, other_id_in_head, other_id_in_body])
async def test_one_wrong_answer_among_many_is_found(fault):
    tally = await load(Server(fault))
    assert (tally.ok, tally.wrong, tally.lost) == (COUNT - 1, 1, 0)
    assert len(tally.examples) == 1


async def test_refusals_and_other_statuses_are_told_apart():
    def fault(number, request_id, document):
        return {3: 503, 4: 503, 5: 500}.get(number, 200), request_id, document

    tally = await load(Server(fault))
    assert (tally.ok, tally.refused, tally.wrong, tally.errors) == (COUNT - 3, 2, 0, {"status 500": 1})


async def test_a_lost_connection_is_one_error_and_another_one_takes_its_place():
    tally = await load(Server(hangs_up_on=3), connections=2)
    assert (tally.ok, tally.errors, tally.lost) == (COUNT - 1, {"connection lost": 1}, 0)


async def test_a_stall_counts_for_every_request_that_was_due_meanwhile():
    """No request waits for an answer to another, and latency begins when it was due (coordinated omission)."""
    server = Server(waits_for=COUNT)
    tally = await load(server)
    assert server.connections == COUNT
    due_s = poisson(400, seed=0, requests=COUNT)
    assert (np.sort(tally.latency_s)[::-1] >= due_s[-1] - due_s).all()


async def test_with_few_connections_the_wait_for_one_is_part_of_the_latency():
    server = Server()
    tally = await load(server, connections=1, due_s=np.zeros(COUNT))
    assert (server.connections, tally.ok) == (1, COUNT)
    assert (np.diff(np.sort(tally.latency_s)) > 0).all()
    assert tally.late_s == sorted(tally.late_s)


async def test_who_never_answers_is_an_error():
    tally = await load(Server(waits_for=COUNT + 1), timeout_s=0.2)
    assert (tally.ok, tally.errors) == (0, {"timeout": COUNT})


async def test_no_server_is_an_error_per_request():
    plan = Plan("http://127.0.0.1:1", QUESTIONS, RULES, poisson(400, seed=0, requests=COUNT), connections=3)
    tally = await generate(plan, time.monotonic())
    assert (tally.ok, tally.lost, tally.errors) == (0, 0, {"connect: ConnectionRefusedError": COUNT})


async def test_a_closed_loop_has_as_many_requests_under_way_as_connections():
    server = Server(waits_for=4)
    tally = await load(server, due_s=None, seconds=0.2, connections=4)
    assert server.connections == 4
    assert tally.ok == tally.sent >= 4


async def test_the_first_seconds_are_verified_but_not_timed():
    tally = await load(Server(other_score), warm_up_s=60)
    assert (tally.ok, tally.wrong, tally.latency_s, tally.late_s) == (COUNT - 1, 1, [], [])


def test_two_processes_make_one_load():
    body = json.dumps({"request_id": "REQUEST-ID", "predictions": QUESTIONS[0].predictions(RULES)})
    with bare_server(body) as url:
        plan = Plan(url, QUESTIONS[:1], RULES, poisson(300, seed=0, requests=101), warm_up_s=0)
        tally = run_plan(plan, processes=2)
        wrong = run_plan(Plan(url, QUESTIONS, RULES, plan.due_s, warm_up_s=0), processes=2)
    assert (tally.sent, tally.ok, tally.lost, len(tally.latency_s)) == (101, 101, 0, 101)
    assert tally.cpu_s > 0
    assert 0 < wrong.wrong < 101
    assert wrong.wrong + wrong.ok == 101


def test_a_process_that_fails_is_no_result(capfd):
    broken = Plan("http://127.0.0.1:1", (None,), RULES, poisson(300, seed=0, requests=10))
    with pytest.raises(RuntimeError, match="failed"):
        run_plan(broken, processes=2)
    assert "Traceback" in capfd.readouterr().err
