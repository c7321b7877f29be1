"""What all candidates share: the bundle, and the engine that all of them can load."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.compare.bundle import Shared, benchmark_bundle, engine_name, enlarge, shared_engine
from benchmark.compare.candidates import all_candidates
from benchmark.harness.server import ROOT
from models.bundles.bundle import ModelBundle
from models.bundles.spec import IMAGENET, EngineSpec, ModelSpec
from models.bundles.table import Table
from models.errors import BundleError


def bundle_of(**engines):
    """A bundle whose manifest names these engines, each by precision."""
    kinds = {"openvino-int8": "openvino", "eager-fp32": "eager"}
    specs = {
        name.replace("_", "-"): EngineSpec(kinds.get(name.replace("_", "-"), "torchscript"), "f.ts", "", precision)
        for name, precision in engines.items()
    }
    spec = ModelSpec("m", "resnet18", 2, "labels.json", IMAGENET, next(iter(specs.values())), engines=specs)
    return ModelBundle(spec, ("a", "b"), Path("nowhere/f.ts"))


def with_table(monkeypatch, **candidates):
    """A table in which candidates take so many milliseconds for a batch of one, or are refused for a reason."""
    rows = [
        {"name": name.replace("_", "-"), "refusal": what}
        if isinstance(what, str)
        else {"name": name.replace("_", "-"), "speeds": [{"threads": 0, "streams": 1, "rounds_ms": {"1": [what]}}]}
        for name, what in candidates.items()
    ]
    monkeypatch.setattr("benchmark.compare.bundle.Table.read", lambda folder: Table({"candidates": rows}))


ALL = {
    "openvino_int8": "int8",
    "torchscript_fp32": "fp32",
    "fx_int8_x86": "int8",
    "fx_int8_onednn": "int8",
    "eager_fp32": "fp32",
}


def test_the_peers_share_the_fastest_file_that_they_can_load(monkeypatch):
    with_table(monkeypatch, openvino_int8=1.0, torchscript_fp32=9.0, fx_int8_x86=5.0, fx_int8_onednn=6.0)
    bundle = bundle_of(**ALL)
    assert shared_engine(bundle) == ("fx-int8-x86", "int8")
    assert shared_engine(bundle, "fx-int8-onednn") == ("fx-int8-onednn", "int8")
    assert engine_name(bundle) == "openvino-int8"
    with pytest.raises(BundleError, match="--shared openvino-int8: the peers load TorchScript files only"):
        shared_engine(bundle, "openvino-int8")


def test_where_fp32_is_the_fastest_that_they_can_load_it_is_shared(monkeypatch):
    """A processor on which int8 was slower, or refused."""
    with_table(monkeypatch, torchscript_fp32=4.0, fx_int8_x86=5.0, fx_int8_onednn=6.0)
    assert shared_engine(bundle_of(**ALL)) == ("torchscript-fp32", "fp32")
    with_table(monkeypatch, torchscript_fp32=4.0, fx_int8_onednn="agrees on 90 %", fx_int8_x86="agrees on 90 %")
    assert shared_engine(bundle_of(torchscript_fp32="fp32", eager_fp32="fp32")).precision == "fp32"
    names = [each.name for each in all_candidates(ROOT, Shared("torchscript-fp32", "fp32"))]
    assert len(names) == len(set(names))
    assert names[:3] == ["snapserve", "snapserve-one-worker", "snapserve-fp32"]


def test_an_engine_that_is_missing_is_named_with_its_reason(monkeypatch):
    with_table(monkeypatch, torchscript_fp32="differs", fx_int8_onednn="agrees on 90 %")
    with pytest.raises(BundleError, match=r"has no engine torchscript-fp32: differs"):
        shared_engine(bundle_of(eager_fp32="fp32"))
    bundle = bundle_of(torchscript_fp32="fp32", eager_fp32="fp32")
    with pytest.raises(BundleError, match=r"has no engine fx-int8-onednn: agrees on 90 %"):
        shared_engine(bundle, "fx-int8-onednn")
    with pytest.raises(BundleError, match=r"has no engine eager-fp32; optimise it anew"):
        shared_engine(bundle_of(torchscript_fp32="fp32"))


def test_a_bundle_gets_imagenets_sizes(tmp_path):
    folder = shutil.copytree(
        ROOT / "models" / "demo", tmp_path / "bundle", ignore=lambda _, names: not_bundle(names)
    )
    spec = enlarge(folder).spec
    assert (spec.preprocess.resize_size, spec.preprocess.crop_size) == (256, 224)
    assert not spec.fidelity
    assert benchmark_bundle(folder) == folder  # it is there: nothing is trained


def not_bundle(names):
    return [name for name in names if not name.endswith((".json", ".safetensors"))]
