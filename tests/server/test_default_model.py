"""What is served when no model is named, and why."""

from __future__ import annotations

import dataclasses

import pytest

from models.bundles.bundle import MANIFEST, ModelBundle
from server import default_model
from server.config import ModelConfig
from server.default_model import DEMO, reason
from server.default_model import default_model as choose


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((), DEMO.name),
        (("efficientnet_lite0",), "efficientnet_lite0"),
        (("resnet18",), "resnet18"),
        (("efficientnet_lite0", "resnet18"), "resnet18"),
        (("resnet50",), DEMO.name),
    ],
)
def test_what_was_optimised_here_comes_before_the_digits(tmp_path, monkeypatch, there, expected):
    monkeypatch.setattr(default_model, "STORE", tmp_path)
    for name in there:
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    assert choose().name == expected


def bundle(folder, **source):
    demo = ModelBundle.load(DEMO)
    return dataclasses.replace(demo, file=folder / "x", spec=dataclasses.replace(demo.spec, source=source))


def test_a_named_model_needs_no_reason():
    assert reason(ModelConfig(model=("a",)), {"a": ModelBundle.load(DEMO)}) == ""


def test_the_reason_is_one_line():
    default = "is the default, as no --model was named"
    made = reason(ModelConfig(), {"digits": bundle(DEMO)})
    assert made == f"digits {default}; make serve optimises an ImageNet model"
    here = bundle(DEMO.parent / "store" / "efficientnet_lite0", instead_of=["resnet18: no answer within 5 s"])
    assert reason(ModelConfig(), {"a": here}) == f"a {default}; the weights of resnet18 could not be downloaded"
    assert reason(ModelConfig(), {"a": bundle(DEMO.parent / "store" / "resnet18")}) == f"a {default}"
