"""How the machine is divided among workers."""

from __future__ import annotations

import pytest

from models.bundles.bare import KIND as BARE
from models.bundles.spec import EngineSpec
from server.config import BatchConfig, Config, LimitConfig, ModelConfig, ServerConfig
from server.workers.sizing import MEMORY_PER_WORKER, engine_processes, memory_per_worker, plan, share_of


class Bundle:
    def __init__(self, device, kind="torchscript"):
        self.spec = type("Spec", (), {"engine": EngineSpec(kind, "model.ts", "", device=device)})


ON_CPU, ON_GPU = {"a": Bundle("cpu")}, {"a": Bundle("cuda")}
FILE = Bundle("cpu", BARE)


def planned(cores, bundles=ON_CPU, models=None, memory=100, on_card=None, **server):
    config = Config(models=models or ModelConfig(device="cpu"), server=ServerConfig(**server))
    config = plan(config, bundles, cores, int(memory * MEMORY_PER_WORKER), on_card)
    return config.server.workers, config.models.intra_op_threads, config.server.decode_threads


@pytest.mark.parametrize(
    ("cores", "given", "settled"),
    [
        (1, {}, (1, 0, 1)),
        (2, {}, (2, 1, 1)),
        (8, {}, (8, 1, 1)),
        (8, {"workers": 2}, (2, 4, 4)),
        (8, {"workers": 16}, (16, 1, 1)),
        (8, {"workers": 1}, (1, 0, 8)),
        (8, {"workers": 1, "decode_threads": 3}, (1, 0, 3)),
        (8, {"workers": 4, "decode_threads": 1}, (4, 2, 1)),
    ],
)
def test_workers_and_their_threads_fill_the_cores(cores, given, settled):
    assert planned(cores, **given) == settled


def test_threads_that_are_given_stay():
    assert planned(8, models=ModelConfig(device="cpu", intra_op_threads=3), workers=2) == (2, 3, 4)


def test_there_are_no_more_workers_than_fit_into_memory_unless_they_were_asked_for():
    assert planned(8, memory=3) == (3, 2, 2)
    assert planned(8, memory=0.5) == (1, 0, 8)
    assert planned(8, memory=3, workers=8) == (8, 1, 1)


@pytest.mark.parametrize(
    ("bundles", "models", "processes"),
    [
        (ON_CPU, {}, 0),
        ({"a": FILE}, {}, 2),
        ({"a": FILE, "b": FILE, "c": Bundle("cpu")}, {}, 4),
        ({"a": FILE, "c": Bundle("cpu")}, {"runner": "process", "engine_processes": 3}, 8),
        ({"a": FILE}, {"runner": "process", "engine_spares": 0}, 1),
        ({"a": FILE}, {"runner": "thread"}, 0),
    ],
)
def test_processes_of_engines_take_memory_too(bundles, models, processes):
    config = ModelConfig(device="cpu", **models)
    assert engine_processes(Config(models=config), bundles) == processes
    each = memory_per_worker(False, processes) / MEMORY_PER_WORKER
    assert planned(8, bundles, config, memory=3.01 * each)[0] == 3
    assert planned(8, bundles, config, memory=2.99 * each)[0] == 2


def test_on_a_gpu_each_process_has_its_own_context():
    config = ModelConfig(device="cuda", runner="process")
    assert planned(16, {"a": FILE}, config, memory=1000, on_card=16 * 10**9)[0] == 4


@pytest.mark.parametrize(
    ("card_gb", "memory_gb", "workers"), [(80, 128, 16), (16, 128, 8), (80, 24, 8), (1, 128, 1), (80, 1, 1)]
)
def test_a_gpu_has_as_many_workers_as_its_memory_and_the_hosts_hold(card_gb, memory_gb, workers):
    on_card, share = card_gb * 10**9, max(1, 16 // workers)
    threads = (0, 16) if workers == 1 else (share, share)
    assert planned(16, ON_GPU, ModelConfig(device="cuda"), memory_gb, on_card) == (workers, *threads)


@pytest.mark.parametrize(
    ("answer", "workers"), [("16376\n", 8), ("81559\n16376\n", 8), ("[N/A]\n", 1), ("", 1), ("exit 9", 1)]
)
def test_the_driver_is_asked_for_the_cards_memory(answer, workers, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answer}\n" if "exit" in answer else f"#!/bin/sh\nprintf '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert planned(16, ON_GPU, ModelConfig(device="cuda"), 128)[0] == workers


def test_without_the_driver_a_gpu_has_one_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert planned(16, ON_GPU, ModelConfig(device="cuda")) == (1, 0, 16)
    assert planned(16, ON_GPU, ModelConfig(device="cuda"), workers=4) == (4, 4, 4)


def test_what_bounds_the_service_is_divided():
    config = Config(
        batching=BatchConfig(queue_limit=1001),
        limits=LimitConfig(max_upload_memory_mb=1000, max_image_mb=7),
        server=ServerConfig(workers=4),
    )
    share = share_of(config)
    assert (share.batching.queue_limit, share.limits.max_upload_memory_mb) == (251, 250)
    assert share.limits.max_image_mb == 7


@pytest.mark.parametrize(
    ("asked", "workers", "descriptors", "service", "each"),
    [
        (0, 1, 1024, 896, 896),
        (0, 4, 1024, 3584, 896),
        (0, 2, 1_000_000, 20_000, 10_000),
        (0, 1, 64, 32, 32),
        (300, 2, 1024, 300, 150),
        (50_000, 2, 1_000_000, 50_000, 25_000),
        (50_000, 2, 1024, 1792, 896),
    ],
)
def test_connections_are_as_many_as_asked_for_and_as_descriptors_allow(
    asked, workers, descriptors, service, each, caplog
):
    config = Config(limits=LimitConfig(max_connections=asked), server=ServerConfig(workers=workers))
    config = plan(config, ON_CPU, 8, descriptors=descriptors)
    assert config.limits.max_connections == service
    assert share_of(config).limits.max_connections == each
    assert ("--max-connections" in caplog.text) == (asked > service)
