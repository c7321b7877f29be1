"""Clients and archives that a server in TorchServe's place must refuse; nothing outside the store is touched.

Every Python process of the server runs with an audit hook that notes each file outside that it opens or changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from tests.compat.hostile import hostile_archives
from tests.compat.servers import Served
from tests.compat.store import archive
from tests.compat.wire import Answer, Request, ask

pytestmark = pytest.mark.timeout(300)

_HOOK = """
import os, sys

_OUTSIDE, _NOTES = os.environ["TEST_OUTSIDE"], os.environ["TEST_NOTES"]


def note(event, arguments):
    if event.split(".")[0] in ("open", "os", "shutil", "pathlib"):
        if any(isinstance(each, (str, bytes)) and os.fsdecode(each).startswith(_OUTSIDE) for each in arguments):
            line = f"{event} {arguments}\\n".encode()
            note_file = os.open(_NOTES, os.O_WRONLY | os.O_APPEND)
            os.write(note_file, line)
            os.close(note_file)


sys.addaudithook(note)
"""
# Their handler is looked for by its file's name, in the archive alone, and is found there.
INSIDE = ("handler-outside.mar", "handler-above.mar")
WRONG_KEY = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"


class Watched:
    """A server with tokens, and what its processes did outside the store."""

    def __init__(self, folder, monkeypatch, minutes):
        self.outside, store, hook = folder / "outside", folder / "made", folder / "hook"
        for each in (self.outside, store, hook):
            each.mkdir()
        (self.outside / "secret").write_text("a secret")
        (self.outside / "handler.py").write_text("raise SystemExit")
        self.notes = folder / "notes"
        self.notes.touch()
        (hook / "sitecustomize.py").write_text(_HOOK)
        archive(self.outside, "elsewhere", "probe_handler")
        archive(store, "probe", "probe_handler")
        for name, write in hostile_archives(self.outside).items():
            write(store / name)
        monkeypatch.setenv("TEST_OUTSIDE", str(self.outside))
        monkeypatch.setenv("TEST_NOTES", str(self.notes))
        self.served = Served(
            store, folder / "server", {"enable_model_api": "true", "token_expiration_min": minutes}
        )
        (self.served.store / "leads-out.mar").symlink_to(self.outside / "elsewhere.mar")
        self.served.start("--ncs", path=str(hook))

    async def manage(self, method, path, key="management", authorization=None):
        """An answer of the management API, by default with the right key."""
        authorization = authorization or f"Bearer {self.served.keys()[key]}"
        headers = {"Host": "127.0.0.1", "Authorization": authorization}
        return await self.served.ask("management", Request(method, path, headers))

    def touched(self):
        return self.notes.read_text()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with watching(tmp_path_factory.mktemp("watched"), "60") as found:
        yield found


@contextlib.contextmanager
def watching(folder, minutes):
    """A watched server whose keys expire after so many minutes."""
    (folder / "server").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = Watched(folder, monkeypatch, minutes)
        try:
            yield found
        finally:
            assert found.served.stop() == 0


def said(answer: Answer):
    return answer.status, json.loads(answer.body).get("message")


async def test_calls_without_the_right_key_are_refused_and_change_nothing(watched):
    keys = watched.served.keys()
    wrong = ["Bearer wrong", f"Bearer {keys['inference']}", f"Bearer {keys['api']}", keys["management"]]
    calls = [
        ("POST", "/models?url=probe.mar"),
        ("PUT", "/models/probe?min_worker=1"),
        ("DELETE", "/models/probe"),
        ("GET", "/models"),
        ("GET", "/models/probe"),
    ]
    for authorization in wrong:
        for method, path in calls:
            answer = await watched.manage(method, path, authorization=authorization)
            assert said(answer) == (400, WRONG_KEY), (method, path, authorization)
    for path in ("/ping", "/predictions/probe", "/nothing"):
        answer = await watched.served.ask("inference", Request("GET", path, {"Host": "127.0.0.1"}))
        assert said(answer) == (400, WRONG_KEY)
    answer = await watched.manage("GET", "/models")
    assert json.loads(answer.body) == {"models": []}
    assert (watched.served.folder / "key_file.json").stat().st_mode & 0o777 == 0o600


async def test_a_key_ends_with_its_time_and_another_is_made_with_the_api_key(tmp_path):
    with watching(tmp_path, "0.05") as watched:
        await check_expiry(watched)


async def check_expiry(watched):
    await watched.served.renew("management")  # the start may have taken longer than a key is valid
    old = watched.served.keys()["management"]
    document = json.loads((watched.served.folder / "key_file.json").read_text())
    end = datetime.fromisoformat(document["management"]["expiration time"])
    assert (await watched.manage("GET", "/models")).status == 200
    await asyncio.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 0.01)
    assert said(await watched.manage("GET", "/models")) == (400, WRONG_KEY)
    assert (await watched.manage("GET", "/token?type=management", key="api")).status == 200
    assert watched.served.keys()["management"] != old
    assert (await watched.manage("GET", "/models")).status == 200
    assert said(await watched.manage("GET", "/models", authorization=f"Bearer {old}")) == (400, WRONG_KEY)


async def test_addresses_of_other_places_are_refused(watched):
    outside = watched.outside
    urls = [
        "http://127.0.0.1:9/x.mar",
        "https://127.0.0.1:9/x.mar",
        "http://169.254.169.254/latest/meta-data",
        "ftp://127.0.0.1/x.mar",
        f"file://{outside}/elsewhere.mar",
        f"file://localhost{outside}/elsewhere.mar",
        f"{outside}/elsewhere.mar",
        "../../outside/elsewhere.mar",
        "..%2f..%2foutside%2felsewhere.mar",
        "leads-out.mar",
        "s3://bucket/x.mar",
        "data:application/zip;base64,AAAA",
        "",
        "\x00",
    ]
    for url in urls:
        answer = await watched.manage("POST", f"/models?url={quote(url, safe='%')}&initial_workers=1")
        assert 400 <= answer.status < 500, (url, answer)
        assert str(watched.served.folder) not in answer.body.decode()
        assert "Traceback" not in answer.body.decode()
    assert watched.touched() == ""
    assert sorted(os.listdir(outside)) == ["elsewhere.mar", "handler.py", "secret"]  # noqa: PTH208


async def test_hostile_archives_are_refused_and_the_server_serves_on(watched):
    before = sorted(
        str(each) for each in watched.served.folder.parent.rglob("*") if "server/logs" not in str(each)
    )
    for name in hostile_archives(watched.outside):
        answer = await watched.manage("POST", f"/models?url={name}&initial_workers=1")
        assert "a secret" not in answer.body.decode() and "Traceback" not in answer.body.decode()
        if name in INSIDE:
            await watched.manage("DELETE", f"/models/{name.partition('.')[0]}")
        else:
            assert answer.status and 400 <= answer.status < 600, (name, answer)
    assert watched.touched() == ""
    after = sorted(str(each) for each in watched.served.folder.parent.rglob("*") if "server/logs" not in str(each))
    assert after == before, "nothing was extracted beside the store"
    assert json.loads((await watched.manage("GET", "/models")).body) == {"models": []}
    assert (await watched.manage("POST", "/models?url=probe.mar&initial_workers=1")).status == 200


async def test_an_archive_wants_its_key_on_the_service_s_own_port_too(watched):
    assert (
        await watched.manage("POST", "/models?url=probe.mar&model_name=guarded&initial_workers=1")
    ).status == 200
    port = int(re.search(r"SnapServe \S+ on http://[\w.]+:(\d+)", watched.served.output())[1])
    tensor = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}]}'
    paths = ["/v2/models/guarded/infer", "/v2/repository/models/guarded/load", "/classify?model=guarded"]
    keys = watched.served.keys()
    for authorization in ("", "Bearer wrong", f"Bearer {keys['management']}"):
        headers = {"Host": "127.0.0.1", "Authorization": authorization}
        for path in paths:
            answer = await ask(port, Request("POST", path, headers, tensor), 60, False)
            assert answer.status == 401, (path, authorization, answer)
    headers["Authorization"] = f"Bearer {keys['inference']}"
    statuses = [(await ask(port, Request("POST", path, headers, tensor), 60, False)).status for path in paths]
    assert statuses[:2] == [422, 200] and statuses[2] != 401
    own = await ask(port, Request("POST", "/v2/models/digits/infer", {"Host": "127.0.0.1"}, tensor), 60, False)
    assert own.status == 400, "a model of the command line wants none"
    assert (await watched.manage("DELETE", "/models/guarded")).status == 200


async def test_the_watch_sees_what_a_handler_opens(watched):
    """The control of the tests above: a handler that is served may do anything, and is seen doing it."""
    archive(watched.served.store, "spy", "spy_handler")
    key = watched.served.keys()["inference"]
    assert (await watched.manage("POST", "/models?url=spy.mar&initial_workers=1")).status == 200
    headers = {"Host": "127.0.0.1", "Content-Type": "text/plain", "Authorization": f"Bearer {key}"}
    body = str(watched.outside / "secret").encode()
    answer = await watched.served.ask("inference", Request("POST", "/predictions/spy", headers, body))
    assert answer.body == b"a secret"
    assert "secret" in watched.touched()
