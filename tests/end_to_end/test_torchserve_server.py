"""A server in TorchServe's place, started by its script: archives, batches and what goes wrong in them."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from tests.compat.servers import Served
from tests.compat.store import add_classifier, add_mnist, archive, fitted, picture
from tests.compat.wire import Request

_OPEN = {"disable_token_authorization": "true", "enable_model_api": "true"}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEXT = {"Host": "127.0.0.1", "Content-Type": "text/plain"}
DIED = {"code": 500, "type": "InternalServerException", "message": "Worker died."}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def network():
    """ResNet18 of random weights that is sure of its answers."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    made = resnet18(weights=None).eval()
    with torch.no_grad():
        made.fc.weight *= 10
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory, network):
    """A server of a store of archives, none of them registered."""
    store, work = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("work")
    add_classifier(store, work, "resnet18", network)
    digits = [np.asarray(Image.open(io.BytesIO(digit(level))), np.float32) / 255 for level in (40, 200)]
    add_mnist(store, work, "mnist", fitted({7: (digits[0] - 0.1307) / 0.3081, 3: (digits[1] - 0.1307) / 0.3081}))
    archive(store, "probe", "probe_handler")
    archive(store, "peritem", "peritem_handler")
    served = Served(store, tmp_path_factory.mktemp("server"), _OPEN)
    served.start("--ncs")
    yield served
    assert served.stop() == 0, served.output()


def digit(level):
    """A grey picture of 28 x 28 pixels with a bar."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 8 : 8 + level // 20] = level
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


async def register(server, query):
    answer = await server.ask("management", Request("POST", f"/models?{query}", {"Host": "127.0.0.1"}))
    assert answer.status == 200, answer.body


async def unregister(server, name):
    answer = await server.ask("management", Request("DELETE", f"/models/{name}", {"Host": "127.0.0.1"}))
    assert answer.status == 200, answer.body


async def predict(server, name, body, headers=TEXT):
    """Status and body, decoded where it is JSON."""
    answer = await server.ask("inference", Request("POST", f"/predictions/{name}", headers, body))
    try:
        return answer.status, json.loads(answer.body)
    except ValueError:
        return answer.status, answer.body.decode()


def expected_scores(network, data):
    """Label -> score of the best five, as TorchServe's image_classifier computes them."""
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    with Image.open(io.BytesIO(data)) as image, torch.inference_mode():
        pixels = transforms.Compose([*steps, transforms.Normalize(_MEAN, _STD)])(image.convert("RGB"))
        scores, places = network(pixels[None]).softmax(1)[0].topk(5)
    return {f"label_{place}": score for place, score in zip(places.tolist(), scores.tolist(), strict=True)}


async def test_a_torchscript_archive_answers_as_its_network_does(server, network):
    await register(server, "url=resnet18.mar&initial_workers=1&batch_size=4&max_batch_delay=50")
    for data in (picture(), picture("RGB", "PNG", (500, 380))):
        status, answer = await predict(server, "resnet18", data, {"Host": "127.0.0.1"})
        expected = expected_scores(network, data)
        assert status == 200
        assert list(answer) == list(expected)
        assert max(abs(answer[label] - score) for label, score in expected.items()) < 1e-4
    together = await asyncio.gather(
        *(
            predict(server, "resnet18", data, {"Host": "127.0.0.1"})
            for data in (picture(), b"no picture", picture())
        )
    )
    assert [status for status, _ in together] == [200, together[1][0], 200]
    assert together[1][0] >= 400
    await unregister(server, "resnet18")


async def test_an_image_classifier_takes_what_the_handler_beside_its_network_takes(server, network):
    await register(server, "url=resnet18.mar&initial_workers=1&batch_size=4&max_batch_delay=50")
    as_json = {"Host": "127.0.0.1", "Content-Type": "application/json"}
    for form in ("BMP", "GIF", "ICO", "JPEG2000", "TIFF"):
        data = picture(form=form, size=(256, 256))
        expected = expected_scores(network, data)
        octets = {"Host": "127.0.0.1", "Content-Type": "application/octet-stream"}
        for body, headers in ((data, octets), (base64.b64encode(data), TEXT)):
            status, answer = await predict(server, "resnet18", body, headers)
            assert status == 200 and list(answer) == list(expected), (form, answer)
            assert max(abs(answer[label] - score) for label, score in expected.items()) < 1e-4, form
    values = np.random.default_rng(0).random((3, 32, 32), np.float32).round(3)
    status, answer = await predict(server, "resnet18", json.dumps(values.tolist()).encode(), as_json)
    with torch.inference_mode():
        best = network(torch.tensor(values)[None]).softmax(1)[0].argmax()
    assert status == 200 and next(iter(answer)) == f"label_{best}"
    damaged = picture(form="BMP")[:60]
    together = await asyncio.gather(
        predict(server, "resnet18", damaged, {"Host": "127.0.0.1"}), predict(server, "resnet18", picture(), TEXT)
    )
    assert [status for status, _ in together] == [503, 200]
    await unregister(server, "resnet18")


async def test_an_eager_archive_with_a_handler_of_its_own_answers(server):
    await register(server, "url=mnist.mar&initial_workers=1")
    octets = {"Host": "127.0.0.1", "Content-Type": "application/octet-stream"}
    assert [await predict(server, "mnist", digit(level), octets) for level in (40, 200)] == [(200, 7), (200, 3)]
    await unregister(server, "mnist")


async def test_a_handler_gets_its_batch_as_a_list(server):
    await register(server, "url=probe.mar&initial_workers=1&batch_size=3&max_batch_delay=5000")
    answers = await asyncio.gather(*(predict(server, "probe", b"batch") for _ in range(3)))
    assert sorted(answer["index"] for _, answer in answers) == [0, 1, 2]
    assert {answer["batch"] for _, answer in answers} == {3}
    await unregister(server, "probe")


async def test_a_handler_rejects_one_item_and_its_neighbours_are_answered(server):
    await register(server, "url=peritem.mar&initial_workers=1&batch_size=4&max_batch_delay=5000")
    octets = {"Host": "127.0.0.1", "Content-Type": "application/octet-stream"}
    bodies = (b"one", b"bad two", b"three", b"bad four")
    answers = await asyncio.gather(*(predict(server, "peritem", body, octets) for body in bodies))
    assert [status for status, _ in answers] == [200, 400, 200, 400]
    assert [answers[0][1]["ok"], answers[2][1]["ok"]] == ["one", "three"]
    assert {answer["batch"] for _, answer in answers} == {4}
    await unregister(server, "peritem")


@pytest.mark.parametrize("fault", [b"exit", b"sysexit", b"sleep:60"])
async def test_a_worker_that_dies_takes_only_its_own_request_along(server, fault):
    await register(server, "url=probe.mar&initial_workers=1&response_timeout=2&model_name=moody")
    await register(server, "url=probe.mar&initial_workers=1&model_name=calm")
    before = (await predict(server, "moody", b"batch"))[1]["pid"]
    failing, behind, beside = await asyncio.gather(
        predict(server, "moody", fault), predict(server, "moody", b"batch"), predict(server, "calm", b"batch")
    )
    assert failing == (500, DIED)
    assert behind[0] == 200 and beside[0] == 200
    after = (await predict(server, "moody", b"batch"))[1]["pid"]
    assert after != before
    ((described,), (status, _)) = (
        await server.json("management", "GET", "/models/moody"),
        await predict(server, "calm", b"batch"),
    )
    assert [worker["pid"] for worker in described["workers"]] == [after]
    assert status == 200
    for name in ("moody", "calm"):
        await unregister(server, name)
