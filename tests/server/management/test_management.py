"""The management's API over real sockets; what it asks for is carried out by a fake."""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import aiohttp
import pytest

from runtime.added_model import AddedModel, ArchiveAsked, GoldenAsked
from runtime.errors import ChangeFailed, ModelRefused, TooManyChanges
from runtime.model_set import ModelSet, Shadow
from server.config import Config, LimitConfig, ManagementConfig, ModelConfig
from server.management.listener import ManagementListener
from tests.models.archives.hostile import manifest, zipped

TOKEN = "a-token-of-some-length"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


class FakeChanges:
    """One process that carries out everything at once, or raises `error`."""

    def __init__(self):
        self.committed = ModelSet(("digits",))
        self.error = None

    async def change(self, operation):
        models = operation(self.committed)
        if self.error:
            raise self.error
        self.committed = models
        return models

    async def show(self):
        return {0: [{"name": "digits", "version": "1", "default": True, "state": "loaded", "users": 3}], 2: []}


class Client:
    """Asks with the right token, unless told otherwise."""

    def __init__(self, session, url, changes, store):
        self.session, self.url, self.changes, self.store = session, url, changes, store

    async def ask(self, method, path, body=None, headers=RIGHT):
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        async with self.session.request(method, self.url + path, data=data, headers=headers) as response:
            document = json.loads(await response.text())
            assert response.headers["Server"].startswith("snapserve/")
            if response.status >= 400 and path.startswith("/v2/"):
                assert list(document) == ["error"] and str(self.store) not in document["error"]
            elif response.status >= 400:
                assert response.content_type == "application/problem+json"
                assert document["status"] == response.status
                assert str(self.store) not in json.dumps(document)
            return response.status, document


@pytest.fixture
async def start(tmp_path):
    """Starts a management, with a model store or without."""
    listeners, sessions = [], []
    (tmp_path / "store" / "new").mkdir(parents=True)
    (tmp_path / "token").write_text(f" {TOKEN}\n")
    (tmp_path / "token").chmod(0o600)

    async def run(has_store=True, **limits):
        store = tmp_path / "store"
        config = Config(
            models=ModelConfig(model_store=str(store) if has_store else ""),
            management=ManagementConfig(management_token_file=tmp_path / "token"),
            limits=LimitConfig(**limits),
        )
        listening, changes = socket.create_server(("127.0.0.1", 0)), FakeChanges()
        listener = ManagementListener(config, changes, listening)
        await listener.start()
        listeners.append(listener)
        sessions.append(aiohttp.ClientSession())
        return Client(sessions[-1], f"http://127.0.0.1:{listening.getsockname()[1]}", changes, store)

    yield run
    for session in sessions:
        await session.close()
    for listener in listeners:
        await listener.close()


@pytest.fixture
async def client(start):
    return await start()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer ä"},
    ],
)
async def test_without_the_token_nothing_is_told_or_done(client, headers):
    for method, path in (("GET", "/models"), ("DELETE", "/models/digits/1"), ("GET", "/nowhere"), ("PUT", "/")):
        status, problem = await client.ask(method, path, b"{}", headers)
        assert (status, problem["type"]) == (401, "urn:snapserve:problem:unauthorized")
    assert client.changes.committed == ModelSet(("digits",))


async def test_the_challenge_names_the_scheme(client):
    async with client.session.get(client.url + "/models") as response:
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_the_token_is_compared_in_constant_time(client, monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda *texts: compared.append(texts) or True)
    assert (await client.ask("GET", "/models", headers={"Authorization": "Bearer x"}))[0] == 200
    assert compared == [(b"x", TOKEN.encode())]


async def test_the_models_with_what_each_worker_knows(client):
    client.changes.committed = (
        client.changes.committed.with_model(AddedModel("digits", "2", "new", golden=GoldenAsked("g")))
        .with_default("digits", "2")
        .with_shadow("digits", Shadow("1", 0.25))
    )
    status, document = await client.ask("GET", "/models/")
    (model,) = document["models"]
    assert (status, document["default"]) == (200, "digits")
    assert (model["default"], model["before"], model["shadow"]) == ("2", "1", {"version": "1", "share": 0.25})
    first, second = model["versions"]
    assert (first["version"], first["source"]) == ("1", "command-line")
    assert [each["worker"] for each in first["workers"]] == [0]
    assert (second["source"], second["path"], second["golden"]["folder"]) == ("added", "new", "g")
    assert await client.ask("GET", "/models/digits") == (200, model)


async def test_a_version_is_added_and_becomes_the_default(client):
    body = {"path": "new", "default": True, "processes": 2, "golden": {"least_agreement": 0.9}}
    status, model = await client.ask("PUT", "/models/digits/2", body)
    assert (status, model["default"], model["before"]) == (201, "2", "1")
    added = client.changes.committed.find("digits", "2")
    assert added == AddedModel("digits", "2", "new", processes=2, golden=GoldenAsked(least_agreement=0.9))


async def test_a_program_of_any_signature_is_added(client):
    status, model = await client.ask("PUT", "/models/digits/2", {"path": "new", "kind": "tensor"})
    assert (status, [each.get("kind") for each in model["versions"]]) == (201, [None, "tensor"])
    assert client.changes.committed.find("digits", "2") == AddedModel("digits", "2", "new", kind="tensor")


async def test_a_version_is_added_beside_the_default(client):
    status, model = await client.ask("PUT", "/models/digits/2/", {"path": "new"})
    assert (status, model["default"], [each["version"] for each in model["versions"]]) == (201, "1", ["1", "2"])
    assert (await client.ask("POST", "/models/digits/2/default"))[1]["default"] == "2"
    assert (await client.ask("POST", "/models/digits/1/scale", {"processes": 3}))[0] == 200
    assert client.changes.committed.processes_of("digits", "1") == 3
    status, model = await client.ask("PUT", "/models/digits/shadow", {"version": "1", "share": 1})
    assert (status, model["shadow"]) == (200, {"version": "1", "share": 1.0})
    assert (await client.ask("DELETE", "/models/digits/shadow"))[1]["shadow"] is None
    status, model = await client.ask("DELETE", "/models/digits/1")
    assert (status, [each["version"] for each in model["versions"]]) == (200, ["2"])


async def test_the_last_version_of_a_further_model_takes_its_name_along(client):
    await client.ask("PUT", "/models/other/v1.0", {"path": "new"})
    status, model = await client.ask("DELETE", "/models/other/v1.0")
    assert (status, model["versions"], model["default"]) == (200, [], None)
    assert (await client.ask("GET", "/models/other"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/models/none", None, 404, "unknown-model"),
        ("GET", "/", None, 404, "not-found"),
        ("PATCH", "/models", None, 405, "method-not-allowed"),
        ("DELETE", "/models/none/1", None, 404, "unknown-model"),
        ("DELETE", "/models/digits/2", None, 404, "unknown-model"),
        ("DELETE", "/models/digits/1", None, 409, "last-model"),
        ("DELETE", "/models/digits/shadow", None, 404, "unknown-model"),
        ("POST", "/models/digits/9/default", None, 404, "unknown-model"),
        ("PUT", "/models/digits/1", {"path": "new"}, 409, "version-taken"),
        ("PUT", "/models/digits/shadow", {"version": "1", "share": 0.1}, 409, "version-in-use"),
        ("PUT", "/models/digits/shadow", {"version": "1", "share": 2}, 400, "bad-request"),
        ("PUT", "/models/digits/shadow", {"version": "1"}, 400, "bad-request"),
        ("POST", "/models/digits/1/scale", {"processes": 0}, 400, "bad-request"),
        ("POST", "/models/digits/1/scale", {"processes": 1.5}, 400, "bad-request"),
        ("POST", "/models/digits/1/scale", {"processes": True}, 400, "bad-request"),
        ("POST", "/models/digits/1/scale", {}, 400, "bad-request"),
        ("PUT", "/models/digits/2", b"", 400, "bad-request"),
        ("PUT", "/models/digits/2", b"[]", 400, "bad-request"),
        ("PUT", "/models/digits/2", b"[" * 60_000, 400, "bad-request"),
        ("PUT", "/models/digits/2", b"\xff", 400, "bad-request"),
        ("PUT", "/models/digits/2", {}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": 1}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "x": 1}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "name": "y"}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "default": 1}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "golden": {"x": 1}}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "golden": []}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "processes": 65}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "kind": "text"}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "kind": "tensor", "labels": "x"}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "kind": "tensor", "golden": {}}, 400, "bad-request"),
        ("PUT", "/models/digits/" + "2" * 65, {"path": "new"}, 400, "bad-request"),
        ("PUT", "/models/..x/2", {"path": "new"}, 400, "bad-request"),
        ("PUT", "/models/a%2Fb/2", {"path": "new"}, 400, "bad-request"),
        ("PUT", "/models/a%00b/2", {"path": "new"}, 400, "bad-request"),
        ("PUT", "/models/a%0Ab/2", {"path": "new"}, 400, "bad-request"),
        ("PUT", "/models/digits/2", {"path": "new", "labels": "none.txt"}, 404, "unknown-model"),
        ("PUT", "/models/digits/2", {"path": "new", "golden": {"folder": "../x"}}, 404, "unknown-model"),
        ("PUT", "/models/digits/2", b" " * 70_000, 413, "too-large"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(client, method, path, body, status, kind):
    got, problem = await client.ask(method, path, body)
    assert (got, problem["type"]) == (status, f"urn:snapserve:problem:{kind}"), problem
    assert client.changes.committed == ModelSet(("digits",))


@pytest.mark.alone
async def test_a_path_that_leads_out_of_the_store_opens_nothing(client):
    outside = client.store.parent / "outside"
    outside.mkdir()
    (client.store / "link").symlink_to(outside)
    opened = []
    sys.addaudithook(lambda event, words: opened.append(str(words[0])) if event == "open" else None)
    for path in ("../outside", "/etc", "link", "a\0b", "http://x/y", "x" * 2000, "", "~", "..", "new/.."):
        status, _ = await client.ask("PUT", "/models/digits/2", {"path": path})
        assert status == (404 if 0 < len(path) <= 1024 else 400), path
    assert not [name for name in opened if "outside" in name or name.startswith("/etc")]
    (client.store / "seen").touch()
    assert opened[-1].endswith("seen"), "what is opened is seen"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (TooManyChanges("16 changes wait already."), 409, "too-many-changes"),
        (ChangeFailed("Worker 1 ended."), 503, "change-failed"),
        (ModelRefused("agreement 0.1, 0.9 is needed"), 422, "model-refused"),
        (ZeroDivisionError("secret"), 500, "internal-error"),
    ],
)
async def test_what_becomes_of_a_change_is_told(client, error, status, kind):
    client.changes.error = error
    got, problem = await client.ask("PUT", "/models/digits/2", {"path": "new"})
    assert (got, problem["type"]) == (status, f"urn:snapserve:problem:{kind}")
    assert (problem["detail"] == str(error)) == (status != 500)


async def test_the_reason_of_a_refusal_names_the_file_below_the_store(client):
    client.changes.error = ModelRefused(f"{client.store}/new/model.json: cannot be read")
    _, problem = await client.ask("PUT", "/models/digits/2", {"path": "new"})
    assert problem["detail"] == "new/model.json: cannot be read"


async def test_without_a_model_store_nothing_can_be_added_and_the_rest_works(start):
    client = await start(has_store=False)
    status, problem = await client.ask("PUT", "/models/digits/2", {"path": "new"})
    assert (status, problem["type"]) == (409, "urn:snapserve:problem:no-model-store")
    assert "--model-store" in problem["detail"]
    assert (await client.ask("GET", "/models"))[0] == 200


async def test_a_body_that_stops_gets_408(start):
    client = await start(body_timeout_s=0.1)
    reader, writer = await asyncio.open_connection(*client.url.removeprefix("http://").split(":"))
    head = ("PUT /models/digits/2 HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", "Content-Length: 9")
    writer.write("\r\n".join([*head, "", "{"]).encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_names_that_nobody_has_leave_nothing_behind(client):
    for number in range(300):
        assert (await client.ask("PUT", f"/models/name{number}/1", {"path": f"none{number}"}))[0] == 404
    assert client.changes.committed == ModelSet(("digits",))


async def test_an_archive_is_added_as_it_says_itself_and_as_was_asked(client):
    yaml = b"minWorkers: 2\nbatchSize: 4\nresponseTimeout: 7\n"
    zipped(client.store / "a.mar", ("c", yaml), content=manifest(configFile="c"))
    zipped(client.store / "plain.mar")
    asked = {"batch_size": 3, "response_timeout_s": 9, "handler": "h.py"}
    status, document = await client.ask(
        "PUT", "/models/a/1", {"path": "a.mar", "kind": "archive", "archive": asked}
    )
    assert (status, document["versions"][0]["path"]) == (201, "a.mar")
    assert (await client.ask("PUT", "/models/a/2", {"path": "plain.mar", "kind": "archive"}))[0] == 201
    first, second = (each.archive for each in client.changes.committed.added)
    assert first == ArchiveAsked("h.py", 3, 100, 7, 120, 2, 2)
    assert second == ArchiveAsked("", 1, 100, 120, 120, 1, 1)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"path": "bad.mar", "kind": "archive"}, 422, "bad.mar: is no zip archive, or damaged"),
        ({"path": "slip.mar", "kind": "archive"}, 422, "slip.mar: the member '../x' leads out of the archive"),
        ({"path": "../a.mar", "kind": "archive"}, 404, "No model of that name is in the store."),
        ({"path": "good.mar", "kind": "archive", "archive": {"x": 1}}, 400, "archive: unknown field 'x'"),
        (
            {"path": "good.mar", "kind": "archive", "on_use": True},
            400,
            "is loaded when it has workers, not on use",
        ),
        ({"path": "good.mar", "archive": {}}, 400, "a model archive has settings of its own"),
        ({"path": "good.mar", "kind": "archive", "labels": "l"}, 400, "a model of kind archive has no labels"),
    ],
)
async def test_archives_that_are_refused(client, body, status, text):
    (client.store / "bad.mar").write_bytes(b"hello")
    zipped(client.store / "slip.mar", "../x")
    zipped(client.store / "good.mar")
    got, problem = await client.ask("PUT", "/models/a/1", body)
    assert (got, text in problem["detail"]) == (status, True), problem
    assert client.changes.committed == ModelSet(("digits",))
