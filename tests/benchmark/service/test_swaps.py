"""Which answers one of two versions gives."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession, web

from benchmark.service.swaps import Seen, Swaps, _clients, alike

DIGITS = [("7", 0.9), ("1", 0.1)]
WORDS = [("seven", 0.9), ("one", 0.1)]


@pytest.mark.parametrize(
    ("given", "is_alike"),
    [
        (DIGITS, True),
        ([("7", 0.902), ("1", 0.098)], True),
        ([("7", 0.8), ("1", 0.2)], False),
        ([("1", 0.9), ("7", 0.1)], False),
        ([("7", 0.9), ("one", 0.1)], False),
        ([], False),
    ],
)
def test_an_answer_has_the_labels_and_scores_of_one_version(given, is_alike):
    assert alike(given, DIGITS) == is_alike


class Models:
    """Notes the changes."""

    def __init__(self):
        self.seen = []

    def set_default(self, name, version):
        self.seen.append(version)

    def add(self, name, version, path, default):
        self.seen.append(f"+{version}")

    def remove(self, name, version):
        self.seen.append(f"-{version}")


def test_every_tenth_swap_adds_a_version_and_removes_it():
    models = Models()
    swaps = Swaps(models)
    for _ in range(11):
        swaps.swap()
    assert models.seen == [*("2", "1") * 4, "2", "+10", "1", "-10", "2"]
    assert (len(swaps.default_s), len(swaps.add_s)) == (10, 1)


async def test_what_is_refused_and_what_is_wrong_is_counted():
    answers, enough = [(200, DIGITS), (503, []), (200, WORDS), (200, [("8", 0.9)])], asyncio.Event()

    async def answer(request):
        if not answers:
            enough.set()
        status, scores = answers.pop(0) if answers else (200, DIGITS)
        predictions = [{"label": label, "score": score} for label, score in scores]
        return web.json_response({"predictions": predictions}, status=status)

    app, seen = web.Application(), Seen()
    app.router.add_post("/classify", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url, known = "http://{}:{}".format(*runner.addresses[0]), {b"image": [DIGITS, WORDS]}
    async with ClientSession(url) as session, _clients(session, known, seen, 1):
        await enough.wait()
    await runner.cleanup()
    assert len(seen.times_s) >= 5
    assert seen.refused == [503]
    assert seen.wrong == [[("8", 0.9)]]
