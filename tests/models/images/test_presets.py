"""Preprocessing by name and from files."""

from __future__ import annotations

import codecs
import dataclasses
import json

import pytest

from models.bundles.spec import IMAGENET
from models.errors import BundleError
from models.images.presets import PRESETS, preprocess_of, read_preprocess
from tests.models.small import SPEC, write_preprocess


def test_a_preset_or_a_whole_file(tmp_path):
    assert read_preprocess("imagenet") == IMAGENET
    assert read_preprocess(str(write_preprocess(tmp_path))) == SPEC


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [("half", -1, 1), ("none", 0, 1), ("raw", 0, 255), ("imagenet", -0.485 / 0.229, None)],
)
def test_what_the_network_gets_for_black_and_white(name, black, white):
    spec = PRESETS[name]
    assert (0 - spec.mean[0]) / spec.std[0] == pytest.approx(black)
    if white is not None:
        assert [(1 - mean) / std for mean, std in zip(spec.mean, spec.std, strict=True)] == pytest.approx(
            [white] * 3
        )


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_file_may_name_a_preset_and_what_differs(tmp_path, mark):
    file = tmp_path / "p.json"
    file.write_bytes(mark + json.dumps({"preset": "half", "resize_size": 64, "crop_size": 64}).encode())
    expected = dataclasses.replace(PRESETS["half"], resize_size=64, crop_size=64)
    assert read_preprocess(str(file)) == expected


def test_a_file_may_say_that_the_aspect_is_not_kept():
    fields = dataclasses.asdict(IMAGENET) | {"mean": [0.5], "std": [0.5]}
    assert preprocess_of(fields | {"resize_mode": "squash"}, "x").resize_mode == "squash"
    del fields["resize_mode"]  # of a bundle from before it was there
    assert preprocess_of(fields, "x").resize_mode == "shortest"


def test_one_number_stands_for_three():
    grey = {"preset": "none", "mean": 0.1307, "std": [0.3081]}
    spec = preprocess_of(grey, "x")
    assert (spec.mean, spec.std) == ((0.1307,) * 3, (0.3081,) * 3)
    assert preprocess_of("half", "x") == PRESETS["half"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"preset": "cifar"}, "preset 'cifar' must be one of imagenet, half, none, raw"),
        ("cifar", "preset 'cifar' must be one of"),
        ({"resize_size": 72}, "'crop_size' is missing"),
        ({"preset": "half", "size": 3}, "unknown field 'size'; there are preset, resize_size"),
        ({"preset": "half", "crop_size": 300}, "must lie between 1 and resize_size 256"),
        ({"preset": "half", "mean": [1, 2]}, "'mean' must be one number or three"),
        ({"preset": "half", "std": True}, "'std' must be one number or three"),
        ({"preset": "half", "std": 0}, "std above 0"),
        ({"preset": "half", "std": -1}, "std above 0"),
        ({"preset": "half", "mean": float("nan")}, "'mean' must be one number or three"),
        ({"preset": "half", "std": float("inf")}, "'std' must be one number or three"),
        ({"preset": "half", "mean": 10**400}, "'mean' must be one number or three"),
        ({"preset": "half", "mean": [123.675, 116.28, 103.53]}, "of values 0 to 255; .* divide both by 255"),
        ({"preset": "half", "resize_size": 10**7}, "resize_size 10000000 must be at most 8192"),
        ({"preset": ["x"]}, r"preset \['x'\] must be one of"),
        ({"preset": "half", "resize_mode": "longest"}, "resize_mode 'longest' must be one of shortest, squash"),
        ({"preset": "half", "resize_mode": 1}, "'resize_mode' must be of type str"),
        ([], "expected an object"),
    ],
)
def test_a_document_that_makes_no_sense(document, said):
    with pytest.raises(BundleError, match=said):
        preprocess_of(document, "x")


def test_a_name_that_is_neither(tmp_path):
    with pytest.raises(BundleError, match="--preprocess cifar: no such file, nor one of imagenet, half"):
        read_preprocess("cifar")


def test_it_is_told_in_one_line():
    assert IMAGENET.describe() == (
        "resize 256, crop 224, bilinear, mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (ImageNet's)"
    )
    assert (
        dataclasses.replace(IMAGENET, resize_mode="squash")
        .describe()
        .startswith("resize 256 x 256 (squash), crop 224, bilinear, mean")
    )
    assert PRESETS["half"].describe().endswith("mean 0.5, std 0.5 (values -1 to 1)")
    assert PRESETS["none"].describe().endswith("mean 0, std 1 (values 0 to 1)")
    assert PRESETS["raw"].describe().endswith("mean 0, std 0.003922 (values 0 to 255)")
    assert (
        dataclasses.replace(IMAGENET, mean=(0.1, 0.1, 0.1)).describe().endswith("mean 0.1, std 0.229 0.224 0.225")
    )
