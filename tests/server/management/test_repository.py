"""The repository of the Open Inference Protocol on the port of management: load and unload by name."""

from __future__ import annotations

import json

import pytest

from runtime.added_model import IMAGE, TENSOR, AddedModel
from runtime.errors import ModelRefused
from tests.server.management.test_management import client, start  # noqa: F401

INDEX, LOAD, UNLOAD = "/v2/repository/index", "/v2/repository/models/{}/load", "/v2/repository/models/{}/unload"


@pytest.fixture
def store(client):  # noqa: F811
    """A store with a bundle `new`, programs and something else."""
    folder = client.store
    for name in ("program.pt", "exported.pt2", "labelled.pt", "text.txt"):
        (folder / name).write_bytes(b"")
    (folder / "labelled.json").write_text(json.dumps({"labels": "labels.txt"}))
    (folder / "program.json").write_text(json.dumps({"inputs": [{"name": "x"}]}))
    return folder


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("new", "new", IMAGE),
        ("program", "program.pt", TENSOR),
        ("exported", "exported.pt2", TENSOR),
        ("labelled", "labelled.pt", IMAGE),
    ],
)
async def test_a_model_is_loaded_by_its_name_and_unloaded(client, store, name, path, kind):  # noqa: F811
    for _ in range(2):  # the second finds it loaded
        assert await client.ask("POST", LOAD.format(name), {}) == (200, {})
    assert client.changes.committed.added == (AddedModel(name, "1", path, kind=kind),)
    index = [{"name": each, "version": "1", "state": "READY"} for each in ("digits", name)]
    assert await client.ask("POST", INDEX) == (200, index)
    parameters = {"parameters": {"unload_dependents": False}}
    assert await client.ask("POST", UNLOAD.format(name), parameters) == (200, {})
    assert client.changes.committed.added == ()


async def test_all_versions_are_unloaded(client, store):  # noqa: F811
    for version in ("1", "2", "3"):
        models = client.changes.committed.with_model(AddedModel("m", version, "new"))
        client.changes.committed = models.with_default("m", version)
    assert await client.ask("POST", UNLOAD.format("m")) == (200, {})
    assert list(client.changes.committed) == [("digits", "1")]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (LOAD.format("text"), {}, 404, "has no 'text'"),
        (LOAD.format("other"), {}, 404, "has no 'other'"),
        (LOAD.format("..%2Fstore%2Fnew"), {}, 404, "has no"),
        (LOAD.format("new"), {"parameters": {"config": "{}"}}, 400, "without a configuration"),
        (LOAD.format("new"), {"parameters": {"file:1/model.pt": ""}}, 400, "without a configuration"),
        (LOAD.format("new"), [], 400, "JSON object"),
        (LOAD.format("new"), b"{", 400, "JSON object"),
        (UNLOAD.format("new"), {}, 404, "No model is called 'new'"),
        (UNLOAD.format("digits"), {}, 409, "default model"),
    ],
)
async def test_what_cannot_be_is_told_and_changes_nothing(client, store, path, body, status, text):  # noqa: F811
    before = client.changes.committed
    found, document = await client.ask("POST", path, body)
    assert found == status and text in document["error"], document
    assert client.changes.committed == before


async def test_the_reason_of_a_refusal_and_a_missing_store_and_token(client, store, start):  # noqa: F811
    client.changes.error = ModelRefused(f"{store}/new: damaged")
    assert await client.ask("POST", LOAD.format("new"), {}) == (422, {"error": "new: damaged"})
    (store / "labelled.json").write_text("{")
    assert (await client.ask("POST", LOAD.format("labelled"), {}))[0] == 422
    status, document = await client.ask("POST", INDEX, headers={})
    assert status == 401 and "Authorization: Bearer TOKEN" in document["error"]
    storeless = await start(has_store=False)
    assert (await storeless.ask("POST", LOAD.format("new"), {}))[0] == 409
