"""Every exchange recorded from TorchServe, sent again: the same status and body, or a listed difference.

With `SNAPSERVE_REPLAY_AGAINST=.cache/peers/torchserve/bin/torchserve` they are sent to the real one, which checks
the tests.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.compat import comparing
from tests.compat.recording import RECORDING, exchanges, settings_of
from tests.compat.replay import Replay
from tests.compat.servers import Served
from tests.compat.store import make_store
from tests.conftest import ROOT

DIFFERENCES = json.loads((Path(__file__).parent / "data" / "torchserve-differences.json").read_text())
DOCUMENT = ROOT / "docs" / "torchserve.md"
COUNT = 527

pytestmark = [
    pytest.mark.skipif(
        not RECORDING.exists(), reason=f"the recording is not here: {RECORDING.name} (SNAPSERVE_SHARED)"
    ),
    pytest.mark.timeout(900),
]

_OPEN = {"disable_token_authorization": "true", "enable_model_api": "true", "metrics_mode": "prometheus"}
_LOADED = {"default_workers_per_model": "1", "load_models": "probe.mar"}
_CORS = {"cors_allowed_origin": "*", "cors_allowed_methods": "GET, POST", "cors_allowed_headers": "X-A"}
_ONE_PORT = {"management_address": "http://127.0.0.1:{inference}"}
_TLS = {f"{api}_address": f"https://127.0.0.1:{{{api}}}" for api in ("inference", "management", "metrics")}
_LIMITS = {
    "max_request_size": "1000",
    "allowed_urls": "https://models\\\\.example/.*",
    "decode_input_request": "false",
}
SETTINGS = {  # of each server that was recorded
    "plain": _OPEN,
    "models": _OPEN,
    "tokens": {**_OPEN, "disable_token_authorization": "false"},
    "kserve": {**_OPEN, "service_envelope": "kserve"},
    "kservev2": {**_OPEN, "service_envelope": "kservev2"},
    "json": {**_OPEN, "service_envelope": "json"},
    "oip": {**_OPEN, "ts_open_inference_protocol": "true"},
    "model API off": {**_OPEN, **_LOADED, "enable_model_api": "false"},
    "two models": {**_OPEN, **_CORS, **_LOADED, "load_models": "pp=probe.mar,entry.mar"},
    "log": {**_OPEN, "metrics_mode": "log"},
    "one port": {**_OPEN, **_ONE_PORT},
    "limits": {**_OPEN, **_LIMITS},
    "tls": {**_OPEN, **_TLS},
    "snapshot": _OPEN,
    "heads": _OPEN,
    "expiry": {**_OPEN, "disable_token_authorization": "false", "token_expiration_min": "0.05"},
}


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """All archives."""
    folder = tmp_path_factory.mktemp("store")
    make_store(folder, tmp_path_factory.mktemp("weights"))
    return folder


@pytest.fixture(scope="session")
def outside(tmp_path_factory, store):
    """A folder that is no model store, with an archive."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "fileurl.mar").write_bytes((store / "probe.mar").read_bytes())
    return folder


@pytest.mark.parametrize("name", SETTINGS)
async def test_every_recorded_exchange_is_answered_alike_or_its_difference_is_listed(
    name, store, outside, tmp_path, request
):
    recorded = settings_of(exchanges())
    settings = {**SETTINGS[name], **(request.getfixturevalue("certificate") if name == "tls" else {})}
    served = Served(store, tmp_path, settings)
    asked = recorded[name]
    replay = Replay(served, outside)
    try:
        served.start(*([] if name == "snapshot" else ["--ncs"]))
        answers = await replay.run(asked)
        if name == "snapshot":
            assert served.stop() == 0
            served.start(with_config=False)
            asked = [*asked, *recorded["restored"]]
            answers |= await replay.run(recorded["restored"])
    finally:
        served.stop()
    theirs = {exchange.name: comparing.recorded(exchange) for exchange in asked}
    different = {each: answer for each, answer in answers.items() if answer != theirs[each]}
    print(f"{name}: {len(answers) - len(different)} of {len(answers)} alike, {len(different)} differ")
    (tmp_path / "different.json").write_text(json.dumps({e: [theirs[e], answers[e]] for e in different}, indent=1))
    assert as_json(different) == {each: DIFFERENCES[each] for each in answers if each in DIFFERENCES}
    for answer in answers.values():
        assert "Traceback" not in str(answer) and str(served.folder) not in str(answer)


def as_json(value):
    """A value as it is after a trip through JSON, with lists for tuples."""
    return json.loads(json.dumps(value))


def test_the_document_lists_each_difference_once_with_its_reason():
    found = exchanges()
    document = DOCUMENT.read_text()
    assert len(found) == COUNT == sum(len(each) for each in settings_of(found).values())
    rows = re.findall(r"^\| .+? \| .+? \| (\d+): (.+?) \|$", document, re.MULTILINE)
    names = [name for _, each in rows for name in each.split("; ")]
    assert all(len(each.split("; ")) == int(count) for count, each in rows)
    assert sorted(names) == sorted(DIFFERENCES)
    differ = len(DIFFERENCES)
    assert f"Of {COUNT} recorded exchanges {COUNT - differ} are answered alike, {differ} differ" in document
