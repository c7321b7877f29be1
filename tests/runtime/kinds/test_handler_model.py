"""Handlers of archives in processes of their own: what they are given, and what becomes of what they return."""

from __future__ import annotations

import asyncio
import io
import json
import shutil

import pytest
import pytest_asyncio
import torch

from batching import ItemFailed
from models.errors import EngineError
from runtime.errors import EngineDied, EngineTimeout, HandlerFailed, InvalidInput, ResponseBegun
from runtime.inputs import Image, JsonText
from runtime.processes.spares import Spares
from tests.runtime.kinds.archived import HANDLERS, archive_of, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def spares():
    """From which every process of this file is forked."""
    spares = Spares()
    yield spares
    await spares.close()


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Makes the folder of an archive, with a handler of tests/compat/archives or with a source."""

    def make(name, source=None):
        folder = tmp_path_factory.mktemp("store") / name
        folder.mkdir()
        if source is None:
            shutil.copy(HANDLERS / f"{name}_handler.py", folder)
        else:
            (folder / f"{name}_handler.py").write_text(source)
        return folder

    return make


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def probe(folder_of, spares):
    """The probe, which takes up to four requests at once."""
    archive = archive_of(folder_of("probe"), "probe_handler.py", {"myHandler": {"threshold": 0.5}})
    async with serving(archive, spares, delay_ms=200, batch_size=4) as served:
        yield served


async def together(served, *texts, **more):
    """The replies, or causes of failures, of requests that are one batch."""
    answers = await asyncio.gather(*(served.say(each, **more) for each in texts), return_exceptions=True)
    return [each.__cause__ if isinstance(each, ItemFailed) else each for each in answers]


async def cause(served, text):
    with pytest.raises(ItemFailed) as failed:
        await served.say(text)
    return failed.value.__cause__


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("str", "plain text é".encode()),
        ("empty", b""),
        ("bytes", b"\x00\x01raw"),
        ("bytearray", b"raw bytes"),
        ("int", b"7"),
        ("float", b"0.1"),
        ("bool", b"true"),
        ("none", b"null"),
        ("list", b'[\n  1,\n  2.5,\n  "x",\n  null\n]'),
        ("tuple", b"[\n  1,\n  2\n]"),
        ("dict", b'{\n  "b": 1,\n  "a": {\n    "c": [\n      1,\n      2\n    ]\n  },\n  "\\u00e9": "\\u00e9"\n}'),
    ],
)
async def test_what_a_handler_returns_is_the_body(probe, text, body):
    reply = await probe.say(text)
    assert (reply.body, reply.content_type, reply.status, reply.reason, reply.headers) == (body, "", 200, None, ())


async def test_a_tensor_is_a_file_of_torch(probe):
    reply = await probe.say("tensor")
    assert torch.load(io.BytesIO(reply.body)).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "why", "code", "message"),
    [
        ("raise:secret", "raised", 0, "Prediction failed"),
        ("memory", "resources", 0, "Out of resources"),
        ("cuda", "resources", 0, "Out of resources"),
        ("predexc:599", "refused", 599, "custom message"),
        ("predexcdefault", "refused", 500, "custom message"),
        ("short", "length", 0, "number of batch response mismatched"),
        ("long", "length", 0, "number of batch response mismatched"),
        ("notlist", "no-list", 0, "Invalid model predict output"),
        ("nonelist", "no-list", 0, "Invalid model predict output"),
        ("numpy", "type", 0, "Unsupported model output data type."),
        ("npfloat", "type", 0, "Unsupported model output data type."),
        ("set", "type", 0, "Unsupported model output data type."),
        ("unserialisable", "type", 0, "Unsupported model output data type."),
        ("status:100", "raised", 0, "Prediction failed"),
    ],
)
async def test_why_there_is_no_answer_is_told_and_the_neighbours_have_theirs(probe, text, why, code, message):
    first, failed, last = await together(probe, "str", text, "int")
    assert (first.body, last.body) == ("plain text é".encode(), b"7")
    assert isinstance(failed, HandlerFailed)
    assert (failed.why, failed.code, str(failed)) == (why, code, message)


async def test_the_traceback_of_a_handler_is_for_the_log(probe):
    failed = await cause(probe, "raise:secret")
    assert "secret" in str(failed.__cause__) and "secret" not in str(failed)


async def test_requests_are_one_batch_and_each_has_its_own_status_and_headers(probe):
    rows = await together(probe, "batch", "status:418:I am a teapot", "header:X-A=1", "ctype:text/csv")
    assert json.loads(rows[0].body)["batch"] == 4
    assert (rows[1].status, rows[1].reason, rows[0].status) == (418, "I am a teapot", 200)
    assert (rows[2].headers, rows[3].headers, rows[3].content_type) == ((("X-A", "1"),), (), "text/csv")
    assert [row.status for row in await together(probe, "allstatus:201", "int")] == [201, 201]


async def test_a_handler_gets_bytes_text_and_json_and_the_headers(probe):
    headers = {"body": {"content-type": "text/plain"}, "X-Custom": "Mixed Case", "url_path": ""}
    body = bytearray(b"xxechoxx")
    reply = await probe.ask(
        {"body": memoryview(body)[2:6], "n": b"\xff", "t": "é", "j": [1, {"a": None}]}, headers
    )
    told = json.loads(reply.body)
    assert told["keys"] == ["body", "n", "t", "j"] and told["headers"] == headers
    assert told["fields"] == {
        "body": {"type": "bytearray", "len": 4, "head": "echo"},
        "n": {"type": "bytearray", "len": 1, "head": "\xff"},
        "t": {"type": "str", "value": "é"},
        "j": {"type": "list", "value": [1, {"a": None}]},
    }
    with pytest.raises(InvalidInput):
        await probe.deployment.infer(Image(b""), None)


async def test_json_that_the_server_has_not_parsed_is_what_it_says_or_bytes(probe):
    texts = {"j": b"[1]", "broken": b"[1", "deep": b"[" * 100_000, "empty": b""}
    told = json.loads((await probe.ask({name: JsonText(memoryview(text)) for name, text in texts.items()})).body)
    kinds = {name: (each["type"], each.get("value", each.get("len"))) for name, each in told["fields"].items()}
    assert kinds == {
        "j": ("list", [1]),
        "broken": ("bytearray", 2),
        "deep": ("bytearray", 100_000),
        "empty": ("bytearray", 0),
    }


async def test_a_handler_is_told_of_its_model(probe):
    told = json.loads((await probe.say("ctx", request_id="an-id")).body)
    properties = told["system_properties"]
    assert properties.pop("model_dir") == str(probe.deployment.model.archive.folder)
    assert properties == {
        "gpu_id": None,
        "batch_size": 4,
        "server_name": "MMS",
        "server_version": "0.12.0",
        "limit_max_image_pixels": True,
    }
    assert told["manifest"] == probe.deployment.model.archive.manifest.document
    assert told["model_yaml_config"] == {"myHandler": {"threshold": 0.5}}
    assert (told["model_name"], told["request_id_len"], told["request_ids_keys"]) == ("probe", len("an-id"), [0])
    assert (told["cwd_is_model_dir"], told["missing_header"], told["get_response_status"]) == (
        True,
        None,
        [200, None],
    )
    assert told["env"] == ["TS_DECODE_INPUT_REQUEST", "TS_IPEX_ENABLE", "TS_IPEX_GPU_ENABLE"]
    assert {"cl_socket", "get_sequence_id", "stopping_criteria", "set_all_response_status"} <= set(told["attrs"])


async def test_actions_are_told_among_the_headers_and_run_apart(probe):
    explained, described, predicted = await asyncio.gather(
        probe.say("echo", action="explain"), probe.ask({}, action="describe"), probe.say("echo")
    )
    assert json.loads(explained.body)["headers"] == {"explain": "True"}
    assert json.loads(described.body) == {"rows": 1, "keys": [], "fields": {}, "headers": {"describe": "True"}}
    assert json.loads(predicted.body)["headers"] == {}


async def test_metrics_come_with_the_answer_and_not_with_a_failure(probe):
    probe.observer.reports.clear()
    await together(probe, "metric", "raise:x")
    found = {each["name"]: each for each in probe.observer.reports}
    assert found["probe_counter"] == {
        "name": "probe_counter",
        "value": 1.0,
        "unit": "Count",
        "type": "counter",
        "labels": [["ModelName", "probe"], ["Level", "Model"]],
    }
    assert (found["probe_time"]["unit"], found["probe_size"]["unit"]) == ("Milliseconds", "Megabytes")
    assert [each["name"] for each in probe.observer.reports].count("probe_counter") == 1


async def test_parts_come_before_the_end_and_are_joined_for_who_wants_none(probe):
    parts, done = [], asyncio.Event()
    streamed = asyncio.ensure_future(probe.say("stream:3", on_part=lambda part: (parts.append(part), done.set())))
    await done.wait()
    assert not streamed.done()
    reply = await streamed
    assert [part.body for part in parts] == [b"part0 ", b"part1 ", b"part2 "] and reply.body == b"last"
    assert parts[0].status == 200
    assert (await probe.say("stream:3")).body == b"part0 part1 part2 last"


async def test_a_large_upload_and_a_large_answer_arrive(probe):
    reply = await probe.ask({"body": memoryview(bytearray(b"echo") * 5_000_000)})
    assert json.loads(reply.body)["fields"]["body"]["len"] == 20_000_000
    assert len((await probe.say("big:20000000")).body) == 20_000_000


async def test_a_handler_that_exits_or_hangs_hurts_only_its_request(folder_of, spares):
    archive = archive_of(folder_of("probe"), "probe_handler")
    async with serving(archive, spares, limit_s=1.0) as served:
        for text, fault in (("exit", EngineDied), ("sysexit", EngineDied), ("sleep:60", EngineTimeout)):
            assert isinstance(await cause(served, text), fault)
            assert (await served.say("int")).body == b"7"


STREAMS = """
import time
from pathlib import Path
from ts.handler_utils.utils import send_intermediate_predict_response as send

def handle(data, context):
    if data is None:
        return
    text = data[0]["body"]
    try:
        for step in range(10_000):
            if text == "fails" and step == 2:
                raise RuntimeError("in the middle")
            if text == "slow" and step == 3:
                return ["end"] * len(data)
            time.sleep(0.8 if text == "slow" else 0.01)
            send([f"{step} "] * len(data), context.request_ids, "", 200, context)
    except Exception as error:
        Path("ended").write_text(type(error).__name__)
        raise
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def streamer(folder_of, spares):
    async with serving(
        archive_of(folder_of("streamer", STREAMS), "streamer_handler.py"), spares, limit_s=2.0
    ) as served:
        yield served


async def test_a_client_that_leaves_in_the_middle_ends_the_work(streamer):
    come = asyncio.Event()
    asking = asyncio.ensure_future(streamer.say("text", on_part=lambda part: come.set()))
    await come.wait()
    pids = streamer.deployment.runner.pids
    asking.cancel()
    assert (await streamer.say("slow")).body.endswith(b"end"), "the handler is free again"
    assert streamer.deployment.runner.pids == pids, "in the same process"
    ended = streamer.deployment.model.archive.folder / "ended"
    assert ended.read_text() == "ClientLeft"


async def test_each_part_has_the_whole_time_limit(streamer):
    parts = []
    reply = await streamer.say("slow", on_part=lambda part: parts.append(part.body))
    assert (parts, reply.body) == ([b"0 ", b"1 ", b"2 "], b"end")


async def test_a_response_that_was_begun_is_not_run_again(streamer):
    parts = []
    with pytest.raises(ItemFailed) as failed:
        await streamer.say("fails", on_part=lambda part: parts.append(part.body))
    assert isinstance(failed.value.__cause__, HandlerFailed) and parts == [b"0 ", b"1 "]
    item = streamer.deployment.model.prepare(streamer_fields())
    item.has_begun = True
    with pytest.raises(ResponseBegun):
        await streamer.deployment.runner.run([item])


def streamer_fields():
    from runtime.inputs import Fields

    return Fields({"body": "text"}, {}, "predict", lambda part: None)


FAILS = """
class A:
    def initialize(self, context):
        raise RuntimeError("a\\nb")
    def handle(self, data, context): ...
"""
TWO = """
class A:
    def handle(self, data, context): ...
class B(A): ...
"""


@pytest.mark.parametrize(
    ("source", "handler", "message"),
    [
        ("import nothing_like_this", "x_handler.py", "x: its handler x_handler.py does not load: ModuleNotFound"),
        ("1 +", "x_handler.py", "x: its handler x_handler.py does not load: SyntaxError"),
        (FAILS, "x_handler", "RuntimeError: a$"),
        (TWO, "x_handler", "x_handler must define a function handle or exactly one class"),
        ("x = 1", "x_handler:work", "must define a function work or exactly one class"),
        ("x = 1", "other.py", "there is no handler 'other.py' in the archive"),
        ("import ts.nothing", "x_handler", "SnapServe provides no ts.nothing"),
        ("def handle(d, c): raise SystemExit(3)", "x_handler", "while it was loaded"),
    ],
)
async def test_a_handler_that_cannot_load_is_told_in_one_line(folder_of, spares, source, handler, message):
    with pytest.raises(EngineError, match=message) as failed:
        async with serving(archive_of(folder_of("x", source), handler), spares):
            raise AssertionError("it loads")
    assert "\n" not in str(failed.value)


HIDES = """
import models, os, sys
from ts.context import Context
from ts.torch_handler.image_classifier import ImageClassifier

def handle(data, context):
    assert isinstance(context, Context)
    return data and [{"models": models.__file__, "torch": "torch" in sys.modules} for row in data]
"""


async def test_an_archive_may_have_modules_of_our_names_and_builtin_ones(folder_of, spares):
    folder = folder_of("hides", HIDES)
    (folder / "models.py").write_text("x = 1")
    (folder / "ts.py").write_text("raise SystemExit")
    async with serving(archive_of(folder, "hides_handler:handle"), spares) as served:
        assert json.loads((await served.say("x")).body)["models"] == str(folder / "models.py")
    own = folder_of("own", "def handle(data, context): return data and ['own' for _ in data]")
    (own / "own_handler.py").rename(own / "image_classifier.py")
    async with serving(archive_of(own, "image_classifier"), spares) as served:
        assert (await served.say("x")).body == b"own"


async def test_a_handler_without_torch_has_a_process_without_it(folder_of, spares):
    source = "import sys\ndef handle(data, context): return data and [sorted(sys.modules) for _ in data]"
    folder = folder_of("light", source)
    (folder / "folder.py").mkdir()  # is no module
    async with serving(archive_of(folder, "light_handler"), spares) as served:
        modules = json.loads((await served.say("x")).body)
        assert not {"torch", "aiohttp", "server", "prometheus_client"} & set(modules)


async def test_a_handler_with_another_name_is_asked_for(folder_of, spares):
    source = "def other(data, context): return data and [context.model_name for _ in data]"
    async with serving(
        archive_of(folder_of("x", source), "wrong.py"), spares, handler="x_handler:other"
    ) as served:
        assert (await served.say("x")).body == b"x"


STARTING = """
import subprocess, sys

class Starting:
    def handle(self, data, context):
        return [subprocess.run([sys.executable, "tools/helper.py"], capture_output=True, text=True).stdout]
"""


async def test_a_program_that_a_handler_starts_imports_from_its_own_folder_and_from_the_archive(folder_of, spares):
    folder = folder_of("starting", STARTING)
    (folder / "tools").mkdir()
    (folder / "tools" / "helper.py").write_text("import beside, shared; print(beside.NAME, shared.NAME, end='')")
    (folder / "tools" / "beside.py").write_text("NAME = 'beside'")
    (folder / "shared.py").write_text("NAME = 'shared'")
    async with serving(archive_of(folder, "starting_handler.py"), spares) as served:
        assert (await served.say("go")).body == b"beside shared"
