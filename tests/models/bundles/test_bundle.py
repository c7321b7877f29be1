"""Bundles: what is written is read, and what is damaged is refused with one line that names the file."""

from __future__ import annotations

import dataclasses
import json

import pytest

from models.bundles.bundle import MANIFEST, ModelBundle, sha256_of
from models.bundles.spec import IMAGENET, EngineSpec, ModelSpec, spec_from_json
from models.errors import BundleError

LABELS = ("cat", "dog", "Kätzchen")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.ts").write_bytes(bytes(range(256)))
    engine = EngineSpec("torchscript", "model.ts", "", device="cpu")
    spec = ModelSpec("pets", "resnet18", 3, "labels.json", IMAGENET, engine, latency_ms={"1": 9.5})
    ModelBundle.write(tmp_path, spec, LABELS)
    return tmp_path


def edit(folder, **changes):
    document = json.loads((folder / MANIFEST).read_text())
    document.update(changes)
    (folder / MANIFEST).write_text(json.dumps(document))


def refused(folder):
    with pytest.raises(BundleError) as refusal:
        ModelBundle.load(folder)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_what_is_written_is_read(folder):
    bundle = ModelBundle.load(folder)
    assert bundle.labels == LABELS
    assert bundle.file == folder / "model.ts"
    assert bundle.spec.engine.sha256 == sha256_of(bundle.file)
    assert bundle.spec.preprocess == IMAGENET
    for spec in (
        bundle.spec,
        dataclasses.replace(bundle.spec, engine=EngineSpec("k", "f", "", reduce_range=True)),
    ):
        assert spec_from_json(ModelSpec, json.loads(json.dumps(spec.to_json())), "x") == spec


@pytest.mark.parametrize("file", ["model.ts", "labels.json"])
@pytest.mark.parametrize("position", [0, 20, -1])
def test_one_changed_byte_is_refused(folder, file, position):
    content = bytearray((folder / file).read_bytes())
    content[position] ^= 1
    (folder / file).write_bytes(content)
    assert refused(folder) == f"{folder / file}: damaged, its SHA-256 is not the one in model.json"


def test_a_file_cut_short_is_refused(folder):
    (folder / "model.ts").write_bytes(bytes(100))
    assert str(folder / "model.ts") in refused(folder)


@pytest.mark.parametrize("file", ["model.ts", "labels.json", MANIFEST])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    assert refused(folder).startswith(f"{folder / file}: cannot be read")


def test_a_wrong_class_count_names_the_labels(folder):
    edit(folder, num_classes=4)
    assert refused(folder) == f"{folder / 'labels.json'}: 3 labels, but model.json says 4 classes"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2 is not supported"),
        ({"num_classes": "3"}, "'num_classes' must be of type int"),
        ({"num_classes": True}, "'num_classes' must be of type int"),
        ({"num_classes": 0}, "must be at least 1"),
        ({"activation": "relu"}, "activation 'relu' must be one of softmax, sigmoid, none"),
        ({"num_classes": 1}, "'softmax' over one class is always 1"),
        ({"preprocess": {"resize_size": 256}}, "'crop_size' is missing"),
        ({"preprocess": 5}, "expected an object"),
        ({"labels": "../labels.json"}, "must be a file name inside the bundle"),
        ({"engine": {"kind": "torchscript", "file": "/etc/passwd", "sha256": ""}}, "must be a file name inside"),
        (
            {"engine": {"kind": "x", "file": "f", "sha256": "", "precision": "fp7"}},
            "precision 'fp7' must be one of",
        ),
        ({"engine": {"kind": "x", "file": "f", "sha256": "", "max_batch_size": 0}}, "must be at least 1"),
        (
            {"engine": {"kind": "x", "file": "f", "sha256": "", "reduce_range": 1}},
            "'reduce_range' must be true or false",
        ),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(folder, changes, said):
    edit(folder, **changes)
    message = refused(folder)
    assert str(folder / MANIFEST) in message
    assert said in message


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("crop_size", 300, "must lie between 1 and resize_size 256"),
        ("interpolation", "magic", "must be one of nearest, bilinear, bicubic"),
        ("std", [1, 1, 0], "std above 0"),
        ("mean", [1, 1], "must be one number or three"),
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(folder, field, value, said):
    edit(folder, preprocess={**dataclasses.asdict(IMAGENET), field: value})
    assert said in refused(folder)


def test_a_manifest_that_is_no_json(folder):
    (folder / MANIFEST).write_text("{")
    assert "not valid JSON" in refused(folder)
    (folder / MANIFEST).write_text("[]")
    assert "expected an object" in refused(folder)


def test_unknown_keys_are_ignored_so_that_newer_bundles_load(folder):
    edit(folder, explain="cam")
    assert ModelBundle.load(folder).spec.name == "pets"


def test_another_engine_of_the_bundle_is_verified_when_it_is_taken(tmp_path):
    for name in ("a.bin", "b.bin", "b.weights"):
        (tmp_path / name).write_bytes(name.encode())
    first, second = EngineSpec("x", "a.bin", ""), EngineSpec("x", "b.bin", "", companions={"b.weights": ""})
    spec = ModelSpec(
        "pets",
        "resnet18",
        2,
        "labels.json",
        IMAGENET,
        first,
        engines={"a": first, "b": second},
        latency_ms={"1": 9},
    )
    bundle = ModelBundle.write(tmp_path, spec, ("cat", "dog"))
    assert bundle.with_engine("a") is bundle
    other = bundle.with_engine("b")
    assert (other.file, other.spec.latency_ms) == (tmp_path / "b.bin", {})
    with pytest.raises(BundleError, match="has no engine 'c', it has a, b"):
        bundle.with_engine("c")
    (tmp_path / "b.weights").write_bytes(b"other")
    assert ModelBundle.load(tmp_path) == bundle
    with pytest.raises(BundleError, match=r"b\.weights: damaged"):
        bundle.with_engine("b")
