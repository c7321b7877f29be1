"""Classifiers as files that somebody brings: TorchScript, ONNX, torch.export."""

from __future__ import annotations

import importlib.util
import json
import warnings

import numpy as np
import torch
from torch import nn

from models.images.presets import PRESETS
from models.optimize.choice import WeightsChoice
from models.optimize.sources import resolve
from tests.conftest import ROOT, lacking
from tests.models.small import quiet, save, traced

SUFFIXES = (".pt", ".pt2", ".onnx")
DEMO = ROOT / "models" / "demo"
LABELS = tuple("0123456789")
SIDE = 96
PREPROCESS = {"preset": "half", "resize_size": SIDE, "crop_size": SIDE}
SETTINGS = {"labels": list(LABELS), "preprocess": PREPROCESS}


def demo_weights():
    """The digits demo: trained, and at 96 pixels."""
    return resolve(WeightsChoice("", bundle=DEMO), quiet())


class Small(nn.Module):
    """Untrained, for what needs no sense: 10 classes, images of any size."""

    def __init__(self, classes=10, channels=3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(channels, 8, 5, stride=4)
            self.head = nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.convolution(images).relu().mean(dim=(2, 3)) * 5)


class Two(nn.Module):
    """Two outputs that could both be the scores."""

    def __init__(self):
        super().__init__()
        self.network = Small()

    def forward(self, images):
        scores = self.network(images)
        return scores.roll(1, dims=1), scores


def write(network, file, shape=(2, 3, SIDE, SIDE), dynamic=True, settings=SETTINGS, **options):
    """Writes a network as a program of the kind that the file's suffix names, with a settings file beside it.

    Args:
        network: of one input.
        file: .pt, .pt2 or .onnx.
        shape: of the example.
        dynamic: batches of any size.
        settings: None for no settings file.
        options: of torch.onnx.export.
    """
    network = network.eval()
    example = torch.rand(shape).to(next(network.parameters()).dtype)
    if settings is not None:
        file.with_suffix(".json").write_text(json.dumps(settings))
    if file.suffix == ".pt":
        return save(traced(network, *shape, dtype=example.dtype), file)
    if file.suffix == ".pt2":
        dims = ({0: torch.export.Dim("batch")},) if dynamic else None
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=dims), file)
        return file
    need_onnx()
    names = options.pop("output_names", ["logits"])
    axes = {name: {0: "batch"} for name in ("images", *names)} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx.export is about to change, and works
        torch.onnx.export(
            *(network, (example,), str(file)),
            **dict(input_names=["images"], output_names=names, dynamic_axes=axes, dynamo=False, **options),
        )
    return file


def need_onnx():
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            lacking(f"{package} is not installed; the extra [dev] brings it")


def weights_of(file, **choice):
    return resolve(WeightsChoice("", program=file, **choice), quiet())


def noise(count=5, side=SIDE):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def outputs_of(network, pixels, preset="half"):
    """Outputs of a torch network by itself, on pixels that are normalised here."""
    mean, std = PRESETS[preset].mean[0], PRESETS[preset].std[0]
    with torch.inference_mode():
        return network.eval()((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
