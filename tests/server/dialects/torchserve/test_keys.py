"""The keys of `key_file.json`: who needs which, how long they last, and what other processes see of a new one."""

from __future__ import annotations

import json
import logging
import stat
import time

import pytest

from server.config import ConfigError, TorchServeConfig
from server.dialects.torchserve.keys import API, INFERENCE, KINDS, MANAGEMENT, KeyFile, key_file
from tests.server.dialects.torchserve.conftest import error

WRONG = error(
    400,
    "InvalidKeyException",
    "Token Authorization failed. Token either incorrect, expired, or not provided correctly",
)


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """A new file in the working directory."""
    monkeypatch.chdir(tmp_path)
    found = key_file(TorchServeConfig(torchserve=True))
    found.create()
    return found


def stored(keys):
    return json.loads(keys.path.read_text())


def bearer(keys, kind):
    return f"Bearer {stored(keys)[kind]['key']}"


def test_the_file_is_the_owner_s_alone_and_looks_like_torchserve_s(keys, tmp_path):
    assert keys.path == tmp_path / "key_file.json"
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [keys.path], "no other file is left"
    document = stored(keys)
    assert list(document) == ["management", "inference", "API"]
    assert list(document["inference"]) == ["key", "expiration time"]
    assert document["inference"]["expiration time"].endswith("Z")
    assert list(document["API"]) == ["key"]
    assert len({each["key"] for each in document.values()}) == 3
    assert keys.path.read_text() == json.dumps(document, indent=2)


def test_each_key_opens_its_own_door_only(keys):
    for wanted in KINDS:
        for given in KINDS:
            assert keys.is_allowed(wanted, bearer(keys, given)) == (wanted == given)


@pytest.mark.parametrize(
    ("form", "allowed"),
    [("Bearer {}", True), ("Bearer   {}", True), ("bearer {}", False), ("{}", False), ("Bearer", False)],
)
def test_the_header_is_spelled_as_torchserve_wants_it(keys, form, allowed):
    assert keys.is_allowed(INFERENCE, form.format(stored(keys)[INFERENCE]["key"])) == allowed
    assert not keys.is_allowed(INFERENCE, "")
    assert not keys.is_allowed(INFERENCE, "Bearer é")


def test_a_key_expires_but_for_that_of_the_token_api(tmp_path):
    keys = KeyFile(tmp_path / "key_file.json", minutes=0.0001)
    keys.create()
    end = time.monotonic() + 10
    while keys.is_allowed(INFERENCE, bearer(keys, INFERENCE)):
        assert time.monotonic() < end
    assert keys.is_allowed(API, bearer(keys, API))
    KeyFile(keys.path, minutes=60).rotate(INFERENCE)
    assert keys.is_allowed(INFERENCE, bearer(keys, INFERENCE)), "a new one lasts anew"


def test_another_process_sees_a_new_key_and_no_other_changes(keys):
    other = KeyFile(keys.path, 60)
    before = {kind: bearer(keys, kind) for kind in KINDS}
    assert other.is_allowed(INFERENCE, before[INFERENCE])
    keys.rotate(INFERENCE)
    assert not other.is_allowed(INFERENCE, before[INFERENCE])
    assert other.is_allowed(INFERENCE, bearer(keys, INFERENCE))
    for kind in (MANAGEMENT, API):
        assert other.is_allowed(kind, before[kind])
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "entry",
    [
        {"key": ""},
        {"key": None},
        {"key": "short"},
        {"key": ["x" * 32]},
        {"key": "x" * 32, "expiration time": "2999-01-01T00:00:00"},
        {"key": "x" * 32, "expiration time": 7},
    ],
)
def test_a_key_that_was_damaged_by_hand_opens_nothing(keys, entry, caplog):
    given = bearer(keys, INFERENCE)
    keys.path.write_text(json.dumps({**stored(keys), INFERENCE: entry}))
    for header in ("Bearer ", "Bearer None", "Bearer short", f"Bearer {'x' * 32}"):
        assert not keys.is_allowed(INFERENCE, header)
    assert keys.is_allowed(INFERENCE, given), "the keys that were in it before are valid"
    assert caplog.text.count("is damaged") == 1


def test_a_file_that_is_gone_or_damaged_leaves_the_keys_as_they_were(keys, caplog):
    given = bearer(keys, INFERENCE)
    assert keys.is_allowed(INFERENCE, given)
    keys.path.write_text("{no")
    with caplog.at_level(logging.WARNING):
        assert keys.is_allowed(INFERENCE, given) and keys.is_allowed(INFERENCE, given)
    assert caplog.text.count("is damaged") == 1
    keys.path.unlink()
    assert keys.is_allowed(INFERENCE, given)


def test_without_a_file_nothing_is_allowed(tmp_path):
    keys = KeyFile(tmp_path / "none.json", 60)
    assert not keys.is_allowed(INFERENCE, "Bearer ")


def test_a_folder_that_cannot_be_written_ends_the_start(tmp_path):
    with pytest.raises(ConfigError, match="--disable-token-auth does without"):
        KeyFile(tmp_path / "nowhere" / "key_file.json", 60).create()


def test_no_keys_are_needed_where_they_are_switched_off():
    assert key_file(TorchServeConfig(torchserve=True, disable_token_auth=True)) is None
    assert key_file(TorchServeConfig()) is None


async def test_all_but_the_description_and_the_metrics_needs_the_key(serve, keys):
    server = await serve(disable_token_auth=False)
    for path in ("/ping", "/nothing", "/predictions/probe", "/predictions/none", "/token?type=inference"):
        assert await server.answer(path) == WRONG
    for kind in (MANAGEMENT, API):
        assert await server.answer("/ping", headers={"Authorization": bearer(keys, kind)}) == WRONG
    assert await server.answer("/predictions/probe", "echo", expect100=True) == WRONG
    assert not server.probe.seen
    for path, method, status in (("/", "OPTIONS", 200), ("/", "GET", 405), ("/api-description", "GET", 200)):
        assert (await server.answer(path, method=method))[0] == status
    assert await server.show("?name[]=none") == ""
    right = {"Authorization": bearer(keys, INFERENCE)}
    assert (await server.answer("/predictions/probe", "echo", headers=right))[0] == 200
    keys.rotate(INFERENCE)
    assert await server.answer("/predictions/probe", "echo", headers=right) == WRONG
    right = {"authorization": bearer(keys, INFERENCE)}
    assert (await server.answer("/predictions/probe", "echo", headers=right))[0] == 200


def test_a_write_that_fails_changes_nothing(keys):
    before = stored(keys)
    moved = keys.path.parent.with_name("moved")
    keys.path.parent.rename(moved)
    try:
        with pytest.raises(OSError):
            keys.rotate(INFERENCE)
        assert keys.is_allowed(INFERENCE, f"Bearer {before[INFERENCE]['key']}")
    finally:
        moved.rename(keys.path.parent)
    assert stored(keys) == before
