"""What the terminal shows."""

from __future__ import annotations

import PIL
import pytest

import models.images.jpeg
from models.images.jpeg import DECODERS
from server.operations.banner import banner, pillow
from snapserve.torchserve_command import READY_VARIABLE


def shown(server, address=("127.0.0.1", 1), seconds=0, workers=1):
    """The banner of a running server."""
    bundles = {name: model.choice.bundle for name, model in server.service.context.store.models.items()}
    return banner(server.service.describe(), bundles, address, seconds, workers)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (("127.0.0.1", 8088), "http://127.0.0.1:8088"),
        (("0.0.0.0", 80), "http://127.0.0.1:80"),
        (("::", 80, 0, 0), "http://[::1]:80"),
        (("192.0.2.7", 80), "http://192.0.2.7:80"),
    ],
)
async def test_the_curl_line_can_be_typed_as_it_is(start, address, url):
    server = await start()
    lines = shown(server, address, 1.5).splitlines()
    assert f" on {url} (ready in 1.5 s" in lines[0]
    assert lines[1].strip() == "hash: hash, 10 classes, fp32 on cpu (hash, batches up to 32)"
    assert lines[2].strip().startswith("resize ") and lines[2].endswith("; scores by softmax")
    assert f"curl -F image=@images/cat.jpg {url}/classify" in lines[3]


def test_each_further_api_has_a_line_with_its_address(hash_bundle):
    bundles, address = {"hash": hash_bundle}, ("::", 80)
    for port, url in ((None, "http://[::1]:80/vision"), (8888, "http://[::1]:8888/vision")):
        text = banner([], bundles, address, 0, root_path="/vision", apis={"torch-serving": port})
        assert f"  torch-serving on {url}" in text.splitlines()


def test_it_names_the_command_that_stops_the_server(hash_bundle, monkeypatch):
    bundles, address = {"hash": hash_bundle}, ("127.0.0.1", 80)
    assert banner([], bundles, address, 0).endswith("Ctrl-C stops")
    monkeypatch.setenv(READY_VARIABLE, "9")
    assert banner([], bundles, address, 0).endswith("torchserve --stop stops"), "it runs in the background"


async def test_random_weights_are_announced(start, hash_bundle, monkeypatch):
    monkeypatch.setitem(hash_bundle.spec.source, "random", True)
    server = await start()
    assert "WARNING: random weights" in shown(server)


async def test_several_workers_are_announced(start):
    server = await start()
    assert shown(server, workers=3).splitlines()[0].endswith(", 3 workers)")


@pytest.mark.parametrize(
    ("version", "text"), [("13.0.0", "Pillow 13.0.0"), ("12.1.1.post0", "Pillow-SIMD 12.1.1.post0")]
)
async def test_the_first_line_says_which_pillow_it_is(start, monkeypatch, version, text):
    server = await start()
    monkeypatch.setattr(PIL, "__version__", version)
    assert pillow() == text
    assert f"s, {text}, JPEG by " in shown(server).splitlines()[0]


@pytest.mark.parametrize("name", DECODERS)
async def test_the_first_line_says_what_decodes_jpegs(start, monkeypatch, name):
    server = await start()
    for each in ("jpeg_region", "simplejpeg"):
        monkeypatch.setattr(models.images.jpeg, each, each == name)
    assert shown(server).splitlines()[0].endswith(f", JPEG by {name})")
