"""The other routes: page, cheat sheet, models, probes, metrics, CORS."""

from __future__ import annotations

import aiohttp
import pytest
from torch import nn

from models.errors import BundleError
from server.config import ModelConfig
from server.model_options import find_bundles
from tests.conftest import flat
from tests.models.small import save, traced
from tests.server.conftest import problem_of


async def test_a_browser_gets_the_page_and_curl_a_cheat_sheet(start):
    server = await start()
    async with server.session.get(server.url, headers={"Accept": "text/html,*/*"}) as response:
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    async with server.session.get(server.url, headers={"Accept": "*/*"}) as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    assert f"curl -F image=@images/cat.jpg {server.url}/classify" in text
    assert len(text.splitlines()) == 9


async def test_models(start):
    server = await start()
    async with server.session.get(server.url + "/models") as response:
        answer = await response.json()
    assert answer["default"] == "hash"
    assert answer["models"][0]["name"] == "hash"
    assert answer["models"][0]["ready"]
    async with server.session.get(server.url + "/models/hash") as response:
        answer = await response.json()
    assert answer["labels"][3] == "label 3"
    assert answer["preprocess"]["crop_size"] == 8


async def test_two_models_behind_one_address(start, hash_bundle):
    server = await start({"one": hash_bundle, "two": hash_bundle})
    for name in ("one", "two"):
        async with server.post(flat(1), f"/classify?model={name}") as response:
            assert (await response.json())["model"] == name
    async with server.post(flat(1)) as response:
        assert (await response.json())["model"] == "one", "the first is the default"
    form = aiohttp.FormData({"model": "two"})
    form.add_field("image", flat(1), filename="x.png")
    async with server.post(form) as response:
        assert (await response.json())["model"] == "two"


async def test_probes_and_metrics(start):
    server = await start()
    for path, status in (("/healthz", "alive"), ("/readyz", "ready")):
        async with server.session.get(server.url + path) as response:
            assert (response.status, await response.json()) == (200, {"status": status})
    for _ in range(3):
        async with server.post(flat(1)) as response:
            assert response.status == 200
    assert await server.metric('snapserve_requests_total{outcome="ok"}') == 3
    assert await server.metric('snapserve_batch_size_count{model="hash",version="1"}') == 4, "with the warm-up"
    for phase in ("read", "decode", "queue", "infer"):
        assert (
            await server.metric(f'snapserve_phase_seconds_count{{model="hash",phase="{phase}",version="1"}}') == 3
        )
    for gauge in ("queue_depth", "batches_in_flight", "images_accepted"):
        assert await server.metric(f'snapserve_{gauge}{{model="hash",version="1"}}') == 0
    assert await server.metric("snapserve_model_info{") == 1


async def test_no_cors_unless_asked_for(start):
    server = await start()
    async with server.post(flat(1), headers={"Origin": "https://a.example"}) as response:
        assert "Access-Control-Allow-Origin" not in response.headers
    async with server.session.options(
        server.url + "/classify", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    ) as response:
        await problem_of(response, 405)


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (("*",), "https://a.example", "*"),
        (("https://a.example",), "https://a.example", "https://a.example"),
        (("https://a.example",), "https://evil.example", None),
    ],
)
async def test_cors(start, origins, origin, allowed):
    server = await start(cors_origin=origins)
    for data in (flat(1), b"bad"):
        async with server.post(data, headers={"Origin": origin}) as response:
            assert response.headers.get("Access-Control-Allow-Origin") == allowed
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with server.session.options(server.url + "/classify", headers=preflight) as response:
        assert response.status == (204 if allowed else 405)
        assert response.headers.get("Access-Control-Allow-Origin") == allowed


def test_models_are_named_and_two_of_one_name_are_refused(hash_bundle):
    folder = hash_bundle.file.parent
    assert list(find_bundles(ModelConfig(model=(f"a={folder}", str(folder))))) == ["a", "hash"]
    with pytest.raises(BundleError, match="two models are called 'hash'"):
        find_bundles(ModelConfig(model=(str(folder), str(folder))))


def test_a_path_may_hold_an_equals_sign(hash_bundle, monkeypatch):
    monkeypatch.chdir(hash_bundle.file.parent.parent)
    hash_bundle.file.parent.rename("a=b")
    assert list(find_bundles(ModelConfig(model=("a=b",)))) == ["hash"]
    assert list(find_bundles(ModelConfig(model=("name=a=b",)))) == ["name"]
    assert list(find_bundles(ModelConfig(model=("./a=b",)))) == ["hash"]


def test_a_name_that_no_file_can_have_is_no_file():
    with pytest.raises(BundleError, match="there is no such folder or file"):
        find_bundles(ModelConfig(model=("x" * 300,)))


def test_a_bare_file_needs_labels(tmp_path):
    file = save(traced(nn.Flatten()), tmp_path / "model.pt")
    with pytest.raises(BundleError, match="--labels"):
        find_bundles(ModelConfig(model=(str(file),)))


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", ["/classify", "/classify/", "/vision/classify", "/vision/classify/"])
async def test_put_a_slash_at_the_end_and_the_root_path(start, method, path):
    server = await start(root_path="/vision")
    async with server.session.request(method, server.url + path, data=flat(1)) as response:
        assert (await response.json())["model"] == "hash"
    async with server.session.request(method, server.url + path, data=b"x") as response:
        await problem_of(response, 415)
    assert await server.metric('snapserve_requests_total{outcome="ok"}') == 1
    assert await server.metric('snapserve_requests_total{outcome="unsupported-format"}') == 1


async def test_put_of_a_large_file_may_expect_100_continue(start):
    server = await start()
    async with server.session.put(server.url + "/classify", data=flat(1), expect100=True) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/models/", "/models/hash/", "/healthz/", "/readyz/", "/metrics/"])
async def test_every_address_may_end_with_a_slash(start, path):
    server = await start()
    async with server.session.get(server.url + path) as response:
        assert response.status == 200


async def test_the_cheat_sheet_shows_the_address_that_its_reader_uses(start):
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "photos.example",
        "X-Forwarded-Prefix": "/vision",
    }
    for options, url in [
        ({}, None),
        ({"root_path": "/own"}, "/own"),
        ({"trusted_proxy": ("127.0.0.0/8",)}, "https://photos.example/vision"),
    ]:
        server = await start(**options)
        shown = url if url and url.startswith("https") else server.url + (url or "")
        async with server.session.get(server.url, headers=headers) as response:
            text = await response.text()
        assert f"curl {shown}/models " in text
        assert text.count(shown) == 7


@pytest.mark.parametrize("path", ["/", "/vision", "/vision/"])
async def test_the_page_is_at_the_root_with_and_without_the_root_path(start, path):
    server = await start(root_path="/vision")
    async with server.session.get(server.url + path, headers={"Accept": "text/html"}) as response:
        page = await response.text()
    for absolute in ("'/models'", "'/classify'", 'href="/', 'src="/'):
        assert absolute not in page
