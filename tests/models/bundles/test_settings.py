"""What a TorchScript file's settings may be, and where they are found."""

from __future__ import annotations

import codecs
import json

import pytest
import torch
from torch import nn

from models.bundles.settings import Settings, settings_of
from models.errors import BundleError
from models.images.presets import PRESETS
from tests.models.small import traced


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.pt"


def write(file, extra=None, beside=None):
    """A TorchScript file with settings inside and beside it."""
    files = {} if extra is None else {"snapserve.json": json.dumps(extra)}
    traced(nn.Flatten()).save(str(file), _extra_files=files)
    if beside is not None:
        file.with_suffix(".json").write_text(json.dumps(beside))


def test_a_file_without_settings(file):
    write(file)
    assert settings_of(file) == Settings()


# Every field, as docs/models.md shows it.
ALL = {"labels": ["cat", "dog"], "preprocess": {"preset": "half"}, "activation": "sigmoid", "output": "logits"}
ALL_SETTINGS = Settings(("cat", "dog"), PRESETS["half"], "sigmoid", "logits")


def test_settings_beside_the_file_and_inside(file):
    write(file, extra=ALL)
    assert settings_of(file) == ALL_SETTINGS
    write(file, beside=ALL)
    assert settings_of(file) == ALL_SETTINGS
    write(file, extra=ALL, beside={"activation": "none"})
    assert settings_of(file) == Settings(("cat", "dog"), PRESETS["half"], "none", "logits")


def test_labels_may_be_a_file_beside_them(file, tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    write(file, beside={"labels": "labels.txt"})
    assert settings_of(file).labels == ("cat", "dog")


def test_a_byte_order_mark_is_no_part_of_them(file):
    write(file)
    file.with_suffix(".json").write_bytes(codecs.BOM_UTF8 + json.dumps(ALL).encode())
    assert settings_of(file) == ALL_SETTINGS


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"epochs": 3}, "expected settings of the model"),
        (["cat"], "expected settings of the model"),
        (
            {"labels": ["cat"], "lables": 1},
            "unknown field 'lables'; there are labels, preprocess",
        ),
        ({"activation": "relu"}, "activation 'relu' must be one of softmax, sigmoid, none"),
        ({"activation": ["none"]}, "'activation' must be text"),
        ({"labels": "nowhere.txt"}, "nowhere.txt: no readable label file"),
        ({"labels": {"0": []}}, "labels: "),
        ({"labels": "a\0b"}, "no readable label file"),
        ({"preprocess": "cifar"}, "preprocess: preset 'cifar'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(file, document, said):
    write(file, beside=document)
    with pytest.raises(BundleError, match=said) as caught:
        settings_of(file)
    assert "\n" not in str(caught.value)


def test_settings_inside_cannot_name_a_file(file):
    write(file, extra={"labels": "labels.txt"})
    with pytest.raises(BundleError, match="must be the labels themselves"):
        settings_of(file)


def test_settings_inside_that_are_no_json(file):
    traced(nn.Flatten()).save(str(file), _extra_files={"snapserve.json": "{"})
    with pytest.raises(BundleError, match=r"mine\.pt: its extra file snapserve\.json is not valid JSON"):
        settings_of(file)


def test_the_first_of_two_wins_field_by_field():
    first, second = Settings(activation="none"), Settings(("a",), PRESETS["raw"], "softmax", "x")
    assert first.over(second) == Settings(("a",), PRESETS["raw"], "none", "x")


def test_reading_them_runs_nothing(file, monkeypatch):
    write(file, extra=ALL)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("ran"))
    assert settings_of(file) == ALL_SETTINGS
