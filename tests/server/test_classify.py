"""POST /classify through a real socket: every way to send an image, every form of answer."""

from __future__ import annotations

import asyncio
import base64
import json

import aiohttp
import numpy as np
import pytest
from PIL import Image

from tests.conftest import encode, flat
from tests.engines import NOT_A_NUMBER, POISON, expected
from tests.server.conftest import problem_of


def form(*files, **fields):
    data = aiohttp.FormData(default_to_multipart=True)
    for name, content in files:
        data.add_field("image", content, filename=name)
    for name, value in fields.items():
        data.add_field(name, value)
    return data


def scores_of(png):
    """What the HashEngine says to an image of 8 x 8 pixels, best first: [(index, score)]."""
    import io

    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    answer = expected(pixels, 10)
    return [(int(index), pytest.approx(float(answer[index]))) for index in np.argsort(-answer)]


def read(predictions):
    return [(prediction["index"], prediction["score"]) for prediction in predictions]


async def test_the_answer_has_everything_that_the_api_promises(start, noise):
    server = await start()
    async with server.post(form(("cat.png", noise(1))), headers={"X-Request-ID": "abc-1"}) as response:
        assert response.status == 200
        answer = await response.json()
        assert response.headers["X-Request-ID"] == answer["request_id"] == "abc-1"
        timing = response.headers["Server-Timing"]
    assert read(answer["predictions"]) == scores_of(noise(1))[:5]
    assert answer["predictions"][0]["label"] == f"label {answer['predictions'][0]['index']}"
    assert (answer["model"], answer["batch_size"]) == ("hash", 1)
    phases = answer["timing_ms"]
    assert list(phases) == ["read", "decode", "queue", "infer", "total"]
    assert phases["total"] == pytest.approx(sum(phases.values()) - phases["total"], abs=0.005)
    assert all(f"{phase};dur={phases[phase]}" in timing for phase in phases)


async def test_every_way_to_send_a_image_gives_the_same_answer(start, noise):
    server, png = await start(), noise(2)
    encoded = base64.b64encode(png).decode()
    as_json = {"Content-Type": "application/json"}
    for data, headers in [
        (form(("cat.png", png)), {}),
        (png, {"Content-Type": "image/png"}),
        (png, {"Content-Type": "application/octet-stream"}),
        (png, {"Content-Type": "application/x-www-form-urlencoded"}),  # curl --data-binary
        (png, {"Content-Type": "image/jpeg"}),
        (png, {"Content-Type": "application/json"}),
        (json.dumps({"inputs": encoded}), as_json),
        (json.dumps({"inputs": "data:image/png;base64," + encoded}), as_json),
        (json.dumps({"inputs": encoded}), {"Content-Type": "application/x-www-form-urlencoded"}),  # curl -d
        (json.dumps({"inputs": [encoded], "parameters": {"top_k": 5}}), as_json),
    ]:
        async with server.post(data, headers=headers) as response:
            answer = await response.json()
            assert response.status == 200, answer
        assert read(answer["predictions"]) == scores_of(png)[:5]


async def test_a_chunked_body(start, noise):
    server, png = await start(), noise(3)

    async def chunks():
        for first in range(0, len(png), 50):
            yield png[first : first + 50]

    async with server.post(chunks()) as response:
        assert read((await response.json())["predictions"]) == scores_of(png)[:5]


@pytest.mark.parametrize("field", ["file", "image"])
async def test_the_bodies_of_the_ancestors_scripts(start, noise, field):
    server, boundary = await start(), "----WebKitFormBoundary7MA4YWxkTrZu0gW"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="cat.jpg"\r\n\r\n'.encode()
        + noise(4)
        + f"\r\n--{boundary}--".encode()
    )
    async with server.post(
        body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    ) as response:
        assert read((await response.json())["predictions"]) == scores_of(noise(4))[:5]


async def test_parameters_in_the_query_in_the_form_and_in_json(start, noise):
    server, png = await start(), noise(5)
    encoded = base64.b64encode(png).decode()
    in_json = json.dumps({"inputs": encoded, "parameters": {"top_k": 3}})
    for data, query in [(form(("a.png", png), top_k="3"), ""), (png, "?top_k=3"), (in_json, "")]:
        async with server.post(data, "/classify" + query) as response:
            assert read((await response.json())["predictions"]) == scores_of(png)[:3]
    async with server.post(form(("a.png", png), top_k="3"), "/classify?top_k=1&model=hash") as response:
        assert len((await response.json())["predictions"]) == 1, "the query wins"
    least = float(np.sort(expected(np.asarray(Image.new("RGB", (8, 8), (9, 9, 9))), 10))[-3])
    async with server.post(flat(9), f"/classify?top_k=10&min_score={least}") as response:
        assert len((await response.json())["predictions"]) == 3


async def test_formats(start, noise):
    server, png = await start(), noise(6)
    async with server.post(png, "/classify?format=hf&top_k=2") as response:
        answer = await response.json()
    assert [set(row) for row in answer] == [{"label", "score"}] * 2
    async with server.post(png, headers={"Accept": "text/plain"}) as response:
        assert response.content_type == "text/plain"
        first, *_ = (await response.text()).splitlines()
        assert first.endswith(f"label {scores_of(png)[0][0]}")
        assert first[6] == "%"


async def test_several_files_in_the_order_sent_and_one_bad_one_among_them(start, noise):
    server = await start()
    files = [("a.png", noise(1)), ("b.txt", b"no image"), ("c.png", noise(2)), ("d.png", noise(3)[:60])]
    async with server.post(form(*files)) as response:
        answer = await response.json()
    assert response.status == 200
    assert [result["filename"] for result in answer["results"]] == ["a.png", "b.txt", "c.png", "d.png"]
    one, two, three, four = answer["results"]
    assert read(one["predictions"]) == scores_of(noise(1))[:5]
    assert read(three["predictions"]) == scores_of(noise(2))[:5]
    assert (two["error"]["status"], four["error"]["status"]) == (415, 422)
    assert two["error"]["request_id"] == answer["request_id"]
    async with server.post(form(*files), "/classify?format=hf&top_k=1") as response:
        assert [len(rows) for rows in await response.json()] == [1, 0, 1, 0]
    async with server.post(form(*files), "/classify?format=text") as response:
        text = await response.text()
        assert text.startswith("a.png\n")
        assert "Not a JPEG" in text


async def test_several_files_that_all_fail(start):
    server = await start()
    async with server.post(form(("a", b"x"), ("b", b"y"))) as response:
        answer = await response.json()
    assert response.status == 422
    assert [result["error"]["status"] for result in answer["results"]] == [415, 415]


async def test_several_files_that_all_fail_by_our_fault(start):
    server = await start()
    async with server.post(form(("a", flat(POISON)), ("b", flat(POISON)))) as response:
        await problem_of(response, 500)


async def test_one_bad_image_among_31_good_ones_hurts_only_itself(start, noise):
    server = await start(batch_timeout_ms=200.0, max_batch_size=32)
    bodies = [noise(n) for n in range(31)] + [noise(99)[:100]]

    async def send(body):
        async with server.post(body) as response:
            return response.status, await response.json()

    answers = await asyncio.gather(*map(send, bodies))
    assert [status for status, _ in answers] == [200] * 31 + [422]
    for body, (_, answer) in zip(bodies[:31], answers, strict=False):
        assert read(answer["predictions"]) == scores_of(body)[:5]


@pytest.mark.parametrize("poison", [POISON, NOT_A_NUMBER])
async def test_a_image_that_the_engine_fails_on_fails_alone(start, noise, poison, caplog):
    server = await start(batch_timeout_ms=200.0, max_batch_size=8)
    bodies = [noise(n) for n in range(7)] + [flat(poison)]

    async def send(body):
        async with server.post(body) as response:
            return response.status, await response.text()

    answers = await asyncio.gather(*map(send, bodies))
    assert [status for status, _ in answers] == [200] * 7 + [500]
    assert "secret" not in answers[-1][1]
    request_id = json.loads(answers[-1][1])["request_id"]
    assert request_id in caplog.text, "our fault is logged with the request's id"


async def test_answers_are_never_mixed_up(start, noise):
    server = await start(max_batch_size=8)
    images = [noise(seed) for seed in range(40)]

    async def client(first):
        for n in range(25):
            png = images[(first * 7 + n) % 40]
            async with server.post(png, "/classify?top_k=10") as response:
                assert read((await response.json())["predictions"]) == scores_of(png)

    await asyncio.gather(*map(client, range(16)))
    assert max(server.engine.batches) > 1, "batches formed"


async def test_a_client_who_leaves_takes_his_image_out_of_the_queue(start, noise):
    server = await start(max_batch_size=4)
    batcher = server.service.context.store.find(None).batcher
    server.engine.gate.clear()
    staying = [asyncio.ensure_future(drop(server, noise(1)))]
    await until(lambda: batcher.batches_in_flight == 1)
    staying.append(asyncio.ensure_future(drop(server, noise(2))))
    await until(lambda: batcher.queued == 1)
    leaving = asyncio.ensure_future(drop(server, noise(9)))
    await until(lambda: batcher.queued == 2)
    leaving.cancel()
    await until(lambda: batcher.queued == 1)
    server.engine.gate.set()
    assert await asyncio.gather(*staying) == [200, 200]
    assert batcher.queued == 0
    assert sum(server.engine.batches) == 1 + 2 + 1, "two warm-ups and the two who stayed"
    assert await server.metric("snapserve_pictures_left_total") == 1
    assert await server.metric('snapserve_requests_total{outcome="client-left"}') == 1


async def drop(server, body):
    async with server.post(body) as response:
        await response.read()
        return response.status


async def until(condition):
    """Waits for the other side of a socket to have done something."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_an_animation_and_a_grey_image_are_read(start):
    server = await start()
    for body in (encode(np.full((8, 8), 9, np.uint8)), flat(9)):
        async with server.post(body) as response:
            assert read((await response.json())["predictions"]) == scores_of(flat(9))[:5]
