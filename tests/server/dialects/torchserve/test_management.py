"""TorchServe's management API over real sockets; what it asks for is carried out by a fake."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from runtime.errors import ChangeFailed, ModelRefused
from runtime.model_set import MOST_MODELS, ModelSet
from runtime.processes.restarts import Restarts
from server.config import Config, LimitConfig, ModelConfig, TorchServeConfig
from server.dialects.torchserve.keys import key_file
from server.dialects.torchserve.management import copies
from server.dialects.torchserve.management.listener import torchserve_listener
from tests.end_to_end.archives import make_archive


class FakeChanges:
    """One process that carries out everything at once, or raises `error`."""

    def __init__(self):
        self.committed = ModelSet(("digits",))
        self.error = None
        self.steps = None  # where it is a queue: an error of each change, or None, when a test says so

    async def change(self, operation, must=False):
        step = await self.steps.get() if self.steps else None
        models = operation(self.committed)
        if step or self.error:
            raise step or self.error
        self.committed = models
        return models

    async def show(self):
        idle = [each.key for each in self.committed.added if each.is_idle]
        return {0: [{"name": name, "version": version, "state": "loaded", "pids": [], "queued": 2}
                    for name, version in self.committed if (name, version) not in idle]}  # fmt: skip

    def pids(self):
        return {0: 1}


class Client:
    def __init__(self, session, listener, changes, store, statuses):
        self.session, self.url, self.stop = session, f"http://{listener.address}", listener.close
        self.changes, self.store, self.statuses = changes, store, statuses

    async def ask(self, method, path, headers=None, **options):
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            text = await response.text()
            is_named = str(self.store.parent) in str(options.get("params"))
            assert is_named or str(self.store.parent) not in text, "no path of the server"
            self.headers = response.headers
            return response.status, json.loads(text) if text.strip() else text

    async def register(self, url, **parameters):
        return await self.ask("POST", "/models", params={"url": url, **parameters})


@pytest.fixture
async def start(tmp_path, monkeypatch):
    """Starts a management API; options by their names."""
    monkeypatch.chdir(tmp_path)
    listeners, sessions = [], []
    store = tmp_path / "store"
    store.mkdir()
    make_archive(store / "echo.mar", "echo")

    async def run(model=(), **options):
        given = TorchServeConfig(
            **{"torchserve": True, "enable_model_api": True, "disable_token_auth": True, **options}
        )
        config = Config(
            models=ModelConfig(model_store="store", model=model), torchserve=given, limits=LimitConfig()
        )
        if keys := key_file(given):
            keys.create()
        listening, changes, statuses = socket.create_server(("127.0.0.1", 0)), FakeChanges(), []
        listener = torchserve_listener(config, changes, listening, statuses.append)
        await listener.start()
        listeners.append(listener)
        sessions.append(aiohttp.ClientSession())
        return Client(sessions[-1], listener, changes, store, statuses)

    yield run
    for session in sessions:
        await session.close()
    for listener in listeners:
        await listener.close()


@pytest.fixture
async def client(start):
    return await start()


async def test_a_list_has_pages(client):
    for name in ("b", "a", "c"):
        assert (await client.register("echo.mar", model_name=name))[0] == 200
    entries = [{"modelName": name, "modelUrl": "echo.mar"} for name in "abc"]
    for query, expected in {
        "": {"models": entries},
        "limit=2": {"nextPageToken": "2", "models": entries[:2]},
        "limit=2&next_page_token=2": {"models": entries[2:]},
        "limit=3": {"nextPageToken": "3", "models": entries},
        "limit=1&next_page_token=1": {"nextPageToken": "2", "models": entries[1:2]},
        "limit=0": {"nextPageToken": "0", "models": []},
        "limit=-1": {"models": entries},
        "limit=101": {"models": entries},
        "limit=abc": {"models": entries},
        "limit=": {"models": entries},
        "next_page_token=12": {"models": []},
        "next_page_token=-1": {"models": entries},
    }.items():
        assert await client.ask("GET", f"/models?{query}") == (200, expected), query


async def test_what_is_said_is_shown(client):
    body = {"url": "echo.mar", "model_name": "x", "batch_size": 3, "max_batch_delay": 50, "response_timeout": 9}
    assert (await client.ask("POST", "/models", json={**body, "initial_workers": 2}))[0] == 200
    (told,) = (await client.ask("GET", "/models/x"))[1]
    assert (told["batchSize"], told["maxBatchDelay"], told["responseTimeout"]) == (3, 50, 9)
    assert [each["id"] for each in told["workers"]] == ["9000", "9001"]
    assert told["jobQueueStatus"] == {"remainingCapacity": 98, "pendingRequests": 2}
    await client.ask("PUT", "/models/x?min_worker=0&synchronous=true")
    await client.ask("PUT", "/models/x?min_worker=1&synchronous=true")
    (told,) = (await client.ask("GET", "/models/x"))[1]
    assert [each["id"] for each in told["workers"]] == ["9002"], "it is another one"
    assert client.headers["Cache-Control"] == "no-cache; no-store, must-revalidate, private"
    assert client.statuses == [200] * 5


async def test_a_model_of_the_options_is_described_and_changed_elsewhere(start):
    client = await start(model=("somewhere/digits",))
    assert (await client.register("echo.mar"))[0] == 200
    names = [(each["modelName"], each["modelUrl"]) for each in (await client.ask("GET", "/models"))[1]["models"]]
    assert names == [("digits", "digits"), ("echo", "echo.mar")]
    (told,) = (await client.ask("GET", "/models/digits"))[1]
    assert (await client.ask("GET", "/models/digits/all"))[1] == [told]
    assert (told["modelName"], told["modelVersion"], told["loadedAtStartup"]) == ("digits", "1", True)
    assert (told["minWorkers"], told["maxWorkers"]) == (1, 1), "one for each process of the server"
    assert [(each["pid"], each["status"]) for each in told["workers"]] == [(1, "READY")]
    assert told["jobQueueStatus"] == {"remainingCapacity": 1022, "pendingRequests": 2}
    assert (await client.ask("GET", "/v1/models/digits"))[1] == {"name": "digits", "ready": True}
    assert (await client.ask("GET", "/models/digits?customized=true"))[0] == 200
    for method, path in (
        ("PUT", "/models/digits?min_worker=2"),
        ("PUT", "/models/digits/1?min_worker=2&synchronous=true"),
        ("PUT", "/models/digits/1/set-default"),
        ("DELETE", "/models/digits"),
    ):
        status, told = await client.ask(method, path)
        assert (status, told["type"]) == (409, "ConflictStatusException"), path
        assert "is no archive" in told["message"]


async def test_a_default_model_that_nobody_has_named_is_not_shown(client):
    assert await client.ask("GET", "/models") == (200, {"models": []})
    assert (await client.ask("GET", "/models/digits"))[0] == 404


async def test_clients_change_nothing_where_the_model_api_is_off(start, caplog):
    caplog.set_level("INFO", "snapserve")
    client = await start(enable_model_api=False)
    for method, path in (("POST", "/models?url=echo.mar"), ("DELETE", "/models/echo")):
        status, told = await client.ask(method, path)
        assert (status, told["type"]) == (405, "MethodNotAllowedException")
    assert caplog.text.count("needs --enable-model-api") == 2, "the response has TorchServe's words"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ModelRefused("/secret/echo.mar: no"), 500, "InternalServerException"),
        (ChangeFailed("Worker 1 ended."), 503, "ServiceUnavailableException"),
    ],
)
async def test_a_change_that_fails_is_told_in_torchserves_words(client, error, status, kind, caplog):
    client.changes.error = error
    got, told = await client.register("echo.mar", initial_workers="1")
    assert (got, told["type"]) == (status, kind)
    assert "secret" not in told["message"]
    assert not [each for each in caplog.records if each.exc_info], "the reason is logged, no error of the server"
    assert client.changes.committed.added == ()


@pytest.mark.parametrize(
    "url",
    [
        "../outside.mar",
        "..%2foutside.mar",
        "/etc/passwd",
        "link.mar",
        "link/outside.mar",
        "./././echo.mar/../../outside.mar",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "http://127.0.0.1:1/x.mar",
        "ftp://127.0.0.1/x.mar",
        "gopher://127.0.0.1/x.mar",
        "\\\\host\\x.mar",
        "~/x.mar",
        "echo.mar\0",
        "a" * 5000,
        "store",
        ".",
    ],
)
async def test_nothing_outside_the_store_is_an_archive(client, url):
    outside = client.store.parent / "outside.mar"
    make_archive(outside, "outside")
    (client.store / "link.mar").symlink_to(outside)
    (client.store / "link").symlink_to(client.store.parent)
    before = sorted(client.store.rglob("*"))
    status, told = await client.register(url)
    assert status in (400, 404) and told["code"] == status
    assert client.changes.committed.added == ()
    assert sorted(client.store.rglob("*")) == before


async def test_an_archive_below_a_folder_or_by_its_whole_path_is_in_the_store(client):
    (client.store / "deep").mkdir()
    make_archive(client.store / "deep" / "er.mar", "deeper")
    assert (await client.register("deep/er.mar"))[0] == 200
    assert (await client.register(str(client.store / "echo.mar")))[0] == 200
    assert [each.path for each in client.changes.committed.added] == ["deep/er.mar", "echo.mar"]


@pytest.fixture
async def web_server(tmp_path):
    """Serves an archive, a redirect to it, and what never ends; its address."""
    make_archive(tmp_path / "far.mar", "far")

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(100_000))

    async def redirect(request):
        raise web.HTTPFound(request.query["to"])

    async def onward(request):
        left = int(request.query["left"])
        raise web.HTTPFound(f"/onward.mar?left={left - 1}" if left > 1 else "/far.mar")

    async def far(request):
        return web.FileResponse(tmp_path / "far.mar")

    async def encoded(request):
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=(tmp_path / "far.mar").read_bytes(), headers={"Content-Encoding": "gzip"})

    app = web.Application()
    routes = {"far": far, "endless": endless, "moved": redirect, "onward": onward, "encoded": encoded}
    app.add_routes([web.get(f"/{name}.mar", handler) for name, handler in routes.items()])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_url_that_is_allowed_is_copied_into_the_store_and_removed_with_its_model(start, web_server):
    client = await start(allowed_urls=f"{web_server}/.*, file:///.*/outside/.*")
    url = f"{web_server}/far.mar"
    assert (await client.register(url))[0] == 200
    assert (client.store / "far.mar").exists()
    assert (await client.ask("GET", "/models"))[1]["models"] == [{"modelName": "far", "modelUrl": url}]
    status, told = await client.register(url, model_name="again")
    assert (status, told["message"]) == (500, "Model file already exists far.mar")
    assert (await client.register("far.mar", model_name="other"))[0] == 200
    assert (await client.ask("DELETE", "/models/far"))[0] == 200
    assert (client.store / "far.mar").exists(), "another model needs it"
    status, told = await client.register("http://127.0.0.2/far2.mar")
    assert (status, told["message"]) == (
        404,
        "Given URL http://127.0.0.2/far2.mar does not match any allowed URL(s)",
    )
    outside = client.store.parent / "outside"
    outside.mkdir()
    make_archive(outside / "near.mar", "near")
    assert (await client.register(f"file://{outside}/near.mar"))[0] == 200
    assert (await client.ask("DELETE", "/models/near"))[0] == 200
    assert sorted(file.name for file in client.store.iterdir()) == ["echo.mar", "far.mar"]
    assert (outside / "near.mar").exists()


async def test_a_copy_that_fails_leaves_nothing(start, web_server, monkeypatch):
    client = await start(allowed_urls=f"{web_server}/.*,file://.*")
    monkeypatch.setattr(copies, "MOST_BYTES", 300_000)
    folder = client.store.parent / "folder.mar"
    folder.mkdir()
    (folder.parent / "zero.mar").symlink_to("/dev/zero")
    for url in (
        f"{web_server}/endless.mar",
        f"{web_server}/missing.mar",
        f"{web_server}/moved.mar?to={web_server.replace('127.0.0.1', 'localhost')}/far.mar",
        f"{web_server}/onward.mar?left=6",
        f"file://{folder}",
        f"file://{folder.parent}/zero.mar",
        "file://elsewhere/x.mar",
    ):
        status, told = await client.register(url)
        assert (status, told["message"]) == (400, f"Failed to download archive from: {url}")
    assert [file.name for file in client.store.iterdir()] == ["echo.mar"]
    status, _ = await client.register(f"{web_server}/moved.mar?to=/far.mar")
    assert status == 200, "a redirect to what is allowed is followed"
    assert (await client.register(f"{web_server}/onward.mar?left=5", model_name="y"))[0] == 200
    assert (await client.ask("DELETE", "/models/y"))[0] == 200
    client.changes.error = ModelRefused("no")
    assert (await client.register(f"{web_server}/far.mar", model_name="x"))[0] == 500
    assert sorted(file.name for file in client.store.iterdir()) == ["echo.mar", "moved.mar"]


async def test_a_copy_replaces_no_file_that_came_meanwhile(tmp_path):
    (tmp_path / "from.mar").write_text("new")
    (tmp_path / "to.mar").write_text("old")
    with pytest.raises(copies.CopyFailed, match="FileExistsError"):
        await copies.copy_into(tmp_path / "to.mar", f"file://{tmp_path}/from.mar", lambda url: True)
    assert (tmp_path / "to.mar").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["from.mar", "to.mar"]


@pytest.mark.parametrize("way", ["%2e%2e", ".%2e", "%252e%252e", "a/%2E%2E/%2e%2e"])
async def test_no_url_leads_out_of_the_folder_that_is_allowed(start, web_server, way):
    """`..` is decoded by the library that asks, or the server that answers, after the pattern was compared."""
    store = Path.cwd() / "store"
    client = await start(allowed_urls=f"{web_server}/models/.*,file://{store}/.*")
    make_archive(store.parent / "near.mar", "near")
    for url in (f"{web_server}/models/{way}/far.mar", f"file://{store}/{way}/near.mar"):
        status, told = await client.register(url)
        assert (status, told["message"]) == (404, f"Relative path is not allowed in url: {url}")
    assert [file.name for file in client.store.iterdir()] == ["echo.mar"]


async def test_a_url_is_decoded_once(start):
    client = await start(allowed_urls="file://.*")
    outside = client.store.parent / "a%41.d"
    outside.mkdir()
    make_archive(outside / "near.mar", "near")
    assert (await client.register(f"file://{client.store.parent}/a%2541.d/near.mar"))[0] == 200


@pytest.mark.parametrize("url", ["http://h/" + "a" * 2048, "http://h/a\nb/x.mar", "http://h/\x1b[2J/x.mar"])
async def test_a_url_is_short_and_printable(start, url, caplog):
    client = await start(allowed_urls=".*")
    status, told = await client.register(url)
    assert status == 404 and told["message"].isprintable() and len(told["message"]) < 200
    assert not caplog.records


async def test_secrets_of_a_url_are_neither_logged_nor_shown(start, web_server, caplog):
    caplog.set_level("INFO")
    client = await start(allowed_urls="http://.*")
    address = web_server.replace("//", "//user:password@")
    assert (await client.register(f"{address}/missing.mar?signature=secret"))[0] == 400
    assert (await client.register(f"{address.replace('127.0.0.1', 'a b')}/x.mar"))[0] == 400
    assert (await client.register(f"{address}/far.mar?signature=secret"))[0] == 200
    told = await client.ask("GET", "/models/far")
    assert told[1][0]["modelUrl"] == f"{web_server}/far.mar?signature=secret"
    logged = "".join(each.getMessage() for each in caplog.records if each.name == "snapserve")
    assert "missing.mar" in logged and "far.mar" in logged
    assert "password" not in logged and "secret" not in logged


async def test_an_archive_is_copied_as_it_is_whatever_its_content_encoding(start, web_server):
    client = await start(allowed_urls="http://.*")
    assert (await client.register(f"{web_server}/encoded.mar"))[0] == 200


async def test_a_copy_that_was_killed_is_removed_by_the_next_one(tmp_path):
    (tmp_path / "from.mar").write_text("new")
    leftover, kept = tmp_path / f"{copies._PREFIX}old", copies._new_folder(tmp_path)
    leftover.mkdir()
    (leftover / "copy").touch()
    await copies.copy_into(tmp_path / "to.mar", f"file://{tmp_path}/from.mar", lambda url: True)
    os.close(kept.lock)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [kept.path.name, "from.mar", "to.mar"], "one that is written stays"


async def test_a_copy_that_another_model_needs_stays_when_its_registration_fails(start, web_server):
    client = await start(allowed_urls="http://.*")

    async def change(operation, must=False):
        (model,) = operation(client.changes.committed).added
        client.changes.committed = client.changes.committed.with_model(dataclasses.replace(model, name="other"))
        raise ModelRefused("no")

    client.changes.change = change
    assert (await client.register(f"{web_server}/far.mar"))[0] == 500
    assert (client.store / "far.mar").exists()


async def test_a_body_is_short(client):
    body = json.dumps({"url": "echo.mar", "model_name": "x" * 65_536})
    status, told = await client.ask("POST", "/models", data=body, headers={"Content-Type": "application/json"})
    assert status == 413 and "at most 65,536 are allowed" in told["message"]


async def test_there_is_a_bound_to_registrations(client):
    limit = asyncio.Semaphore(32)

    async def register(number):
        async with limit:
            return (await client.register("echo.mar", model_name=f"m{number}"))[0]

    statuses = await asyncio.gather(*map(register, range(MOST_MODELS + 200)))
    assert (statuses.count(200), statuses.count(503)) == (MOST_MODELS, 200)
    assert (await client.ask("GET", "/models"))[1]["nextPageToken"] == "100"


async def test_requests_need_the_key_of_their_kind(start):
    client = await start(disable_token_auth=False)
    keys = {kind: f"Bearer {each['key']}" for kind, each in _keys().items()}
    refused = "Token {} failed. Token either incorrect, expired, or not provided correctly"
    for method, path in (
        ("GET", "/models"),
        ("GET", "/nothing"),
        ("GET", "/ping"),
        ("POST", "/models?url=echo.mar"),
    ):
        for header in (None, "Bearer x", keys["inference"], keys["API"], keys["management"].replace("B", "b", 1)):
            status, told = await client.ask(method, path, {"Authorization": header} if header else None)
            assert (status, told["type"]) == (400, "InvalidKeyException"), (path, header)
            assert told["message"] == refused.format("Authorization")
    assert client.changes.committed.added == ()
    assert (await client.ask("OPTIONS", "/"))[0] == (await client.ask("GET", "/api-description"))[0] == 200
    assert (await client.ask("GET", "/"))[0] == 405
    right = {"Authorization": keys["management"]}
    assert (await client.ask("GET", "/models/tokenizer", right))[0] == 404
    for header, query in ((keys["management"], "inference"), (keys["API"], "other"), (keys["API"], "INFERENCE")):
        status, told = await client.ask("GET", f"/token?type={query}", {"Authorization": header})
        assert (status, told["message"]) == (400, refused.format("Authentication"))
    assert (await client.ask("POST", "/token?type=management", {"Authorization": keys["API"]})) == (200, "\n")
    assert (await client.ask("GET", "/models", right))[0] == 400
    right = {"Authorization": f"Bearer {_keys()['management']['key']}"}
    assert (await client.ask("GET", "/models", right))[0] == 200
    assert _keys()["inference"]["key"] in keys["inference"], "the others stay"


def _keys():
    return json.loads(Path("key_file.json").read_text())


@pytest.fixture
async def stepwise(client):
    """A client whose changes wait until a test puts their outcomes into `steps`."""
    client.changes.steps = asyncio.Queue()
    return client


@pytest.fixture
def no_pauses(monkeypatch):
    """Between the tries of a change."""
    monkeypatch.setattr(Restarts, "delay_s", 0.0)


async def settled(client):
    """Waits for what goes on after its answer."""
    async with asyncio.timeout(20):
        while not client.changes.steps.empty():
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)


PROCESSING = 202, {"status": "Processing worker updates..."}


async def test_requests_wait_for_workers_from_the_answer_to_an_asynchronous_registration(stepwise, no_pauses):
    changes = stepwise.changes
    changes.steps.put_nowait(None)
    assert await stepwise.register("echo.mar", initial_workers="1", synchronous="false") == PROCESSING
    (model,) = changes.committed.added
    assert model.is_starting and model.is_idle
    for step in (ChangeFailed("Worker 1 ended."), None):
        changes.steps.put_nowait(step)
    await settled(stepwise)
    (model,) = changes.committed.added
    assert not model.is_starting and not model.is_idle, "a worker of the server that ends is no fault of it"


async def test_requests_wait_for_workers_of_a_model_that_had_none(stepwise, no_pauses):
    changes = stepwise.changes
    changes.steps.put_nowait(None)
    assert (await stepwise.register("echo.mar"))[0] == 200
    changes.steps.put_nowait(None)
    assert await stepwise.ask("PUT", "/models/echo?min_worker=2&max_worker=3") == PROCESSING
    assert changes.committed.added[0].is_starting
    changes.steps.put_nowait(ModelRefused("no"))
    changes.steps.put_nowait(ChangeFailed("Worker 1 ended."))
    changes.steps.put_nowait(None)
    await settled(stepwise)
    (model,) = changes.committed.added
    assert model.is_idle and not model.is_starting, "it is as before: nobody waits for ever"


async def test_of_a_registration_that_fails_later_nothing_is_left(start, web_server, no_pauses):
    client = await start(allowed_urls=f"{web_server}/.*")
    client.changes.steps = asyncio.Queue()
    for step in (None, ModelRefused("no"), None):
        client.changes.steps.put_nowait(step)
    url = f"{web_server}/far.mar"
    assert await client.register(url, initial_workers="1", synchronous="false") == PROCESSING
    await settled(client)
    assert client.changes.committed.added == ()
    assert not (client.store / "far.mar").exists(), "so that it can be registered again"


async def test_what_was_started_later_is_not_done_to_another_registration_of_that_name(stepwise):
    changes = stepwise.changes
    changes.steps.put_nowait(None)
    await stepwise.register("echo.mar", initial_workers="1", synchronous="false")
    first = changes.committed
    changes.committed = first.without("echo", "1.0").with_model(first.added[0]).scaled("echo", "1.0", 0)
    again = changes.committed
    changes.steps.put_nowait(None)
    await settled(stepwise)
    assert changes.committed == again


async def test_what_was_copied_stays_though_the_request_ends_before_the_change(start, web_server):
    client = await start(allowed_urls=f"{web_server}/.*")
    client.changes.steps = asyncio.Queue()
    asking = asyncio.ensure_future(client.register(f"{web_server}/far.mar"))
    while not (client.store / "far.mar").exists() or not client.changes.steps._getters:
        await asyncio.sleep(0.01)
    await client.stop()
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert (client.store / "far.mar").exists()
    client.changes.steps.put_nowait(None)
    await settled(client)
    assert [each.path for each in client.changes.committed.added] == ["far.mar"]
    assert (client.store / "far.mar").exists()
