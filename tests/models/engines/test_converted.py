"""TorchScript files that OpenVINO runs: the same answers, or TorchScript as before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.bundles.bare import bare_bundle
from models.bundles.settings import Settings
from models.engines import converted, load_engine
from models.engines.base import EngineOptions
from models.engines.conversion import to_openvino
from models.images.presets import preprocess_of
from tests.models.small import save, traced

pytest.importorskip("openvino", reason="the extra openvino is not installed")

SIDE = 32
SPEC = preprocess_of({"preset": "none", "resize_size": SIDE, "crop_size": SIDE}, "x")
LABELS = tuple(f"label {number}" for number in range(7))
PIXELS = np.random.default_rng(3).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)


def network(seed=0):
    """One whose file is worth a conversion."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 400), nn.ReLU(), nn.Linear(400, 7)).eval()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The network as a file of TorchScript."""
    file = save(traced(network(), 2, 3, SIDE, SIDE), tmp_path_factory.mktemp("file") / "model.pt")
    return bare_bundle(file, Settings(LABELS, SPEC))


@torch.inference_mode()
def expected():
    return torch.softmax(network()(torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255), 1).numpy()


def answers(bundle):
    """The engine's kind, and its scores of batches of every size."""
    engine = load_engine(bundle, EngineOptions("cpu", 1, max_batch_size=len(PIXELS)))
    rows = [engine.infer(PIXELS[:size]) for size in range(1, len(PIXELS) + 1)]
    engine.close()
    return engine.spec.kind, rows


def check(rows):
    for row in rows:
        np.testing.assert_allclose(row, expected()[: len(row)], rtol=1e-4, atol=1e-6)


def test_openvino_gives_the_same_answers(bundle):
    kind, rows = answers(bundle)
    assert kind == "bare-openvino"
    check(rows)


def another(graph, example):
    """A conversion that goes wrong: that of another network."""
    other = graph_of(network(seed=1))
    return to_openvino(other, example)


def graph_of(module):
    class Graph(nn.Module):
        def forward(self, images):
            return torch.softmax(module(images.permute(0, 3, 1, 2) / 255), 1)

    return Graph().eval()


def refused(graph, example):
    raise RuntimeError("no such operator")


def missing(graph, example):
    raise ImportError("openvino")


@pytest.mark.parametrize("conversion", [another, refused, missing])
def test_a_file_stays_torchscript_where_openvino_has_other_answers_or_none(bundle, monkeypatch, conversion):
    monkeypatch.setattr(converted, "to_openvino", conversion)
    kind, rows = answers(bundle)
    assert kind == "bare-torchscript"
    check(rows)
