"""Which bundles fit this machine."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from models.bundles.spec import IMAGENET, EngineSpec, ModelSpec
from models.engines import compatibility
from models.engines.compatibility import misfit

PROCESSOR = "x86_64 avx2"
VERSIONS = {"torch": "2.15.0+cu132", "openvino": "2026.4.1"}
BUILT_HERE = {**VERSIONS, "isa": PROCESSOR, "gpu": None}


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    monkeypatch.setattr(compatibility, "processor_kind", lambda: PROCESSOR)
    monkeypatch.setattr(compatibility, "package_version", VERSIONS.get)
    monkeypatch.setattr(compatibility, "gpu_name", lambda: None)


def spec(kind="torchscript", file="model.ts", device="cpu", **built_with):
    engine = EngineSpec(kind, file, "", device=device)
    return ModelSpec("m", "resnet18", 3, "labels.json", IMAGENET, engine, built_with=built_with)


def test_what_was_built_here_fits():
    assert misfit(spec(**BUILT_HERE)) == ""
    assert misfit(spec("openvino", "model.xml", **BUILT_HERE)) == ""


def test_a_bundle_that_does_not_say_what_it_was_built_with_is_taken_as_it_is():
    assert misfit(spec()) == ""
    assert misfit(spec(device="cuda")) == ""


@pytest.mark.parametrize(
    ("kind", "built_with", "said"),
    [
        (
            "torchscript",
            {"isa": "x86_64 avx2 avx512f avx512_vnni"},
            "built for x86_64 avx2 avx512f avx512_vnni, this processor is x86_64 avx2",
        ),
        ("torchscript", {"isa": "aarch64 asimd"}, "built for aarch64 asimd, this processor is x86_64 avx2"),
        ("torchscript", {"torch": "2.14.1"}, "built with torch 2.14, 2.15 is installed here"),
        ("torchscript", {"torch": "2.1.5"}, "built with torch 2.1, 2.15 is installed here"),
        ("torchscript", {"torch": "2.15.3+cpu"}, ""),
        ("torchscript", {"openvino": "2025.1.0"}, ""),
        ("openvino", {"openvino": "2025.1.0"}, "built with openvino 2025.1, 2026.4 is installed here"),
        ("openvino", {"torch": "2.14.1"}, ""),
    ],
)
def test_another_processor_or_version(kind, built_with, said):
    assert misfit(spec(kind, **{**BUILT_HERE, **built_with})) == said


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(compatibility, "package_version", lambda name: None)
    said = "built with openvino 2026.4, which is not installed here"
    assert misfit(spec("openvino", "model.xml", **BUILT_HERE)) == said


@pytest.mark.parametrize(
    ("here", "said"),
    [
        ("NVIDIA H200", ""),
        ("NVIDIA L4", "built for NVIDIA H200, this GPU is NVIDIA L4"),
        (None, "built for NVIDIA H200, torch sees no GPU here"),
    ],
)
def test_a_graphics_card_counts_and_the_processor_beside_it_does_not(monkeypatch, here, said):
    monkeypatch.setattr(compatibility, "gpu_name", lambda: here)
    assert misfit(spec(device="cuda", **{**BUILT_HERE, "gpu": "NVIDIA H200", "isa": "aarch64"})) == said


def test_a_device_that_was_asked_for():
    assert misfit(spec(**BUILT_HERE), "cpu") == ""
    assert misfit(spec(**BUILT_HERE), "cuda") == "built for cpu, cuda was asked for"
    assert misfit(spec(device="cuda"), "cpu") == "built for cuda, cpu was asked for"


def test_weights_always_fit():
    weights = spec(file="weights.safetensors", device="any", isa="aarch64", torch="1.0")
    assert misfit(weights) == misfit(weights, "cuda") == ""
    elsewhere = dataclasses.replace(weights.engine, file="model.ts", device="cpu")
    assert misfit(dataclasses.replace(weights, engine=elsewhere)) != ""


def test_asking_does_not_import_torch():
    code = "import sys, models.engines.compatibility; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
