"""int8 adds up rightly on this processor, and uses 7 bits of an operand where it must."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from models.bundles.spec import PreprocessSpec
from models.machine.processor import saturates_int8
from models.optimize.candidates import Job, fx, openvino, published
from models.optimize.contestant import Contestant, Setting
from models.optimize.weights import PublishedInt8
from tests.models.small import random_weights

CLASSES = tuple("abcde")
SPEC = PreprocessSpec(16, 16, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CANDIDATES = (fx.ONEDNN, fx.X86, openvino.INT8)
CHOOSING = (fx.ONEDNN, openvino.INT8)  # between 7 and 8 bits


class Loud(nn.Module):
    """White images give its largest activations, which meet its largest weights: two such products saturate.

    A saturated sum is half of the right one, in each layer.
    """

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.second = nn.Conv2d(32, len(CLASSES), 3, padding=1, bias=False)
        with torch.no_grad():
            self.first.weight.fill_(1 / 27)
            strengths = torch.linspace(-2, 2, len(CLASSES)) / (32 * 9)
            self.second.weight.copy_(strengths[:, None, None, None].expand(-1, 32, 3, 3))

    def forward(self, images):
        return self.second(self.first(images).relu()).mean(dim=(2, 3))


WHITE = np.full((4, 16, 16, 3), 255, np.uint8)


def job():
    return Job(Loud().eval(), SPEC, (1, 4), WHITE)


def difference(scores):
    """Largest difference of a score from fp32's."""
    with torch.inference_mode():
        expected = Loud()(torch.ones(len(scores), 3, 16, 16)).softmax(dim=1).numpy()
    return float(np.abs(scores - expected).max())


def scores(candidate, folder, work, pixels, labels=CLASSES):
    folder.mkdir(exist_ok=True)
    contestant = Contestant(candidate, work, "resnet18", labels, folder)
    build = contestant.build()
    return contestant.scores(pixels, Setting(1)), build.engine


def on_a_processor_that(saturates, monkeypatch):
    for module in (fx, openvino, published):
        monkeypatch.setattr(module, "saturates_int8", lambda: saturates)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda each: each.name)
def test_7_bits_saturate_on_no_processor(tmp_path, candidate, monkeypatch):
    on_a_processor_that(True, monkeypatch)
    actual, engine = scores(candidate, tmp_path, job(), WHITE)
    assert difference(actual) < 0.02
    assert engine.reduce_range


@pytest.mark.parametrize("candidate", CHOOSING, ids=lambda each: each.name)
def test_8_bits_saturate_on_those_without_vnni(tmp_path, candidate, monkeypatch):
    """The fault that the test above looks for, planted; on processors with VNNI it is none."""
    on_a_processor_that(False, monkeypatch)
    actual, engine = scores(candidate, tmp_path, job(), WHITE)
    assert (difference(actual) > 0.1) == saturates_int8()
    assert not engine.reduce_range


@pytest.mark.parametrize(
    ("architecture", "reduce_range", "saturates", "backend"),
    [
        ("resnet18", True, True, "x86"),
        ("resnet18", True, False, "x86"),
        ("mobilenet_v2", False, True, "qnnpack"),
        ("mobilenet_v2", False, False, "x86"),
    ],
)
def test_published_weights_run_on_a_backend_that_does_not_saturate_with_them(
    tmp_path, monkeypatch, architecture, reduce_range, saturates, backend
):
    if backend not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this build of torch has no {backend}")
    on_a_processor_that(saturates, monkeypatch)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        network = torchvision.models.quantization.__dict__[architecture](weights=None, quantize=True).eval()
        torch.save(network.state_dict(), tmp_path / "published.pth")
    file = PublishedInt8(architecture, tmp_path / "published.pth", "test", 0.7, 0.7, reduce_range)
    weights = random_weights(tmp_path, "resnet18")
    work = dataclasses.replace(Job(weights.network(), weights.preprocess, (2,)), published=file)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    labels = tuple(map(str, range(1000)))
    actual, engine = scores(published.INT8, tmp_path / "bundle", work, pixels, labels)
    assert (engine.quantized_engine, engine.reduce_range) == (backend, reduce_range)
    assert actual.shape == (2, 1000)
