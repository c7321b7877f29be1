"""Which engine of a bundle is served, and what is said and shown about it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from models.bundles.bare import KIND
from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec, ModelSpec
from models.bundles.table import TABLE_FILE
from models.engines import compatibility
from models.engines.selection import choose
from models.errors import BundleError
from server.service import Service
from tests.conftest import flat
from tests.server.conftest import GEOMETRY, make_config

ENGINE = EngineSpec("hash", "fast.bin", "", precision="int8", device="cpu", threads=2)
ENGINES = {
    "fast": ENGINE,
    "slow": dataclasses.replace(ENGINE, file="slow.bin", precision="fp32", threads=1),
    "native": dataclasses.replace(ENGINE, kind="aotinductor", file="native.pt2"),
    "weights": EngineSpec("hash", "weights.safetensors", "", device="any"),
}
ONE_THREAD = {
    "threads": 1,
    "streams": 1,
    "latency_ms": {"1": 9.0, "2": 10.0, "16": 99.0},
    "rounds_ms": {"1": [9.0, 8.0], "2": [12.0, 9.8], "16": [64.0, 99.0]},
}
TABLE = {
    "winner": "fast",
    "candidates": [
        {"name": "fast", "speeds": [ONE_THREAD]},
        {
            "name": "slow",
            "speeds": [{"threads": 1, "streams": 1, "latency_ms": {"1": 10.0, "4": 20.0, "8": 60.0}}],
        },
    ],
}
ELSEWHERE = "built with torch 2.14, 2.15 is installed here"


@pytest.fixture
def write(hash_bundle, monkeypatch):
    """A function that writes a bundle of several engines; `built_with` says where it was made."""
    monkeypatch.setattr(compatibility, "package_version", lambda name: "2.15.0")
    folder = hash_bundle.file.parent

    def make(torch="2.15.1", engines=ENGINES, engine=ENGINE):
        for each in {**engines, "": engine}.values():
            (folder / each.file).write_bytes(each.file.encode())
        (folder / TABLE_FILE).write_text(json.dumps(TABLE))
        latency_ms = {"1": 5.0, "2": 6.0, "4": 8.0, "16": 32.0}
        built_with = {"torch": torch}
        spec = ModelSpec(
            "m", "hash", 10, "labels.json", GEOMETRY, engine, engines=engines, latency_ms=latency_ms,
            built_with=built_with,
        )  # fmt: skip
        return ModelBundle.write(folder, spec, hash_bundle.labels)

    return make


def refusal(bundle, **options):
    with pytest.raises(BundleError) as refused:
        choose(bundle, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def started(start, bundle, **options):
    """The engine's spec and the most images in a batch, of a running server."""
    server = await start({"m": bundle}, **options)
    deployment = server.service.context.store.loaded("m")
    spec = deployment.runner.facts.spec
    assert deployment.batcher.policy.max_batch_size == spec.max_batch_size
    return server, spec


async def test_threads_and_batch_size_are_the_bundles(start, write):
    _, engine = await started(start, write())
    assert (engine.file, engine.threads, engine.max_batch_size) == ("fast.bin", 2, 4)


async def test_threads_and_batch_size_are_the_users(start, write):
    _, engine = await started(start, write(), intra_op_threads=3, max_batch_size=7)
    assert (engine.file, engine.threads, engine.max_batch_size) == ("fast.bin", 3, 7)


async def test_the_batch_size_is_what_was_best_with_as_many_threads(start, write):
    """Each of several workers has fewer than the engine was chosen with."""
    server, engine = await started(start, write(), intra_op_threads=1)
    assert (engine.file, engine.threads, engine.max_batch_size) == ("fast.bin", 1, 16), (
        "which in its fastest round was best"
    )
    async with server.session.get(server.url + "/models/m") as response:
        assert (await response.json())["latency_ms"] == ONE_THREAD["latency_ms"]


async def test_a_bundle_that_was_not_timed_gets_batches_of_32(start, hash_bundle):
    _, engine = await started(start, hash_bundle)
    assert engine.max_batch_size == 32


async def test_an_engine_that_is_asked_for_comes_with_its_own_measurements(start, write):
    server, engine = await started(start, write(), engine="slow")
    assert (engine.file, engine.threads, engine.max_batch_size) == ("slow.bin", 1, 4)
    async with server.session.get(server.url + "/models/m") as response:
        answer = await response.json()
    assert answer["latency_ms"] == TABLE["candidates"][1]["speeds"][0]["latency_ms"]


async def test_a_model_is_shown_with_its_engine_and_its_table(start, write):
    server, _ = await started(start, write())
    async with server.session.get(server.url + "/models/m") as response:
        answer = await response.json()
    expected = {"name": "fast", "kind": "hash", "precision": "int8", "device": "cpu", "threads": 2, "streams": 1}
    assert answer["engine"].items() >= {**expected, "max_batch_size": 4}.items()
    assert answer["latency_ms"] == {"1": 5.0, "2": 6.0, "4": 8.0, "16": 32.0}
    assert answer["engines"] == list(ENGINES)
    assert answer["table"] == TABLE
    async with server.session.get(server.url + "/models") as response:
        (short,) = (await response.json())["models"]
    assert short["engine"] == answer["engine"]
    assert not {"table", "engines"} & short.keys()
    assert short["labels"] == "labels.json", "the file only"


async def test_a_model_without_a_table_is_shown_without_one(start):
    server = await start()
    async with server.session.get(server.url + "/models/hash") as response:
        answer = await response.json()
    assert "table" not in answer
    assert answer["engine"]["name"] == ""


async def test_a_bundle_from_elsewhere_is_served_from_its_weights_and_says_so(start, write):
    bundle = write(torch="2.14.0")
    server, engine = await started(start, bundle)
    assert (engine.file, engine.max_batch_size) == ("weights.safetensors", 32)
    async with server.post(flat(1)) as response:
        assert response.status == 200
    folder = bundle.file.parent
    line = (
        f"{folder}: {ELSEWHERE}; its weights are compiled anew, unquantised. For full speed: "
        f"python optimize_model_for_inference.py --bundle {folder} --output {folder} --force"
    )
    assert server.service.describe()[0].endswith(f"\n  WARNING: {line}")


def test_a_bundle_from_elsewhere_without_weights_is_refused(write):
    bundle = write(torch="2.14.0", engines={"fast": ENGINE})
    said = refusal(bundle)
    assert said.startswith(
        f"{bundle.file.parent}: {ELSEWHERE}; it has no weights to compile anew: python optimize_"
    )


def test_a_compiled_engine_from_elsewhere_is_refused_when_it_is_asked_for(write):
    bundle = write(torch="2.14.0")
    assert refusal(bundle, engine="slow") == f"{bundle.file.parent}: engine 'slow': {ELSEWHERE}"
    assert refusal(bundle, engine="fast") == f"{bundle.file.parent}: engine 'fast': {ELSEWHERE}"
    assert choose(bundle, engine="weights").notice == ""


def test_another_device_means_weights_too(write):
    choice = choose(write(), device="cuda")
    assert choice.engine == "weights"
    assert "built for cpu, cuda was asked for" in choice.notice


def test_an_unknown_engine_names_those_that_are_there(write):
    assert refusal(write(), engine="none").endswith("has no engine 'none', it has fast, slow, native, weights")


def test_an_engine_that_holds_the_interpreter_lock_is_not_served(write):
    assert "engine 'native' holds the interpreter lock" in refusal(write(), engine="native")
    assert "`python -m models run` runs it" in refusal(write(engine=ENGINES["native"]))


def test_a_bare_file_has_no_engines_to_choose_from(hash_bundle):
    engine = dataclasses.replace(hash_bundle.spec.engine, kind=KIND)
    bare = dataclasses.replace(hash_bundle, spec=dataclasses.replace(hash_bundle.spec, engine=engine))
    assert choose(bare).bundle is bare
    assert refusal(bare, engine="fast").startswith(f"{bare.file}: a bare TorchScript file has no engines")


def test_a_refusal_comes_before_anything_is_served(write):
    with pytest.raises(BundleError):
        Service(make_config(engine="none"), {"m": write()})
