"""A classifier that is traced in a second: a small network at 64 x 64 pixels with ten classes."""

from __future__ import annotations

import json

import torch
from rich.console import Console

from models.bundles.spec import PreprocessSpec
from models.networks.graph import jit_warnings_ignored
from models.optimize.sources import WeightsChoice, resolve

# Two threads wait for each other at every operator, which takes minutes where other work has the cores.
torch.set_num_threads(1)

ARCHITECTURE = "squeezenet1_1"  # untrained, it still answers differently to different images
CLASSES = 10
SPEC = PreprocessSpec(72, 64, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def write_preprocess(folder):
    """A --preprocess file."""
    file = folder / "preprocess.json"
    fields = ("resize_size", "crop_size", "interpolation", "mean", "std")
    file.write_text(json.dumps({name: getattr(SPEC, name) for name in fields}))
    return file


def write_labels(folder, count=CLASSES):
    """A --labels file."""
    file = folder / "labels.txt"
    file.write_text("".join(f"label {index}\n" for index in range(count)))
    return file


def random_weights(folder, architecture=ARCHITECTURE, **changes):
    """Seeded random weights of the small classifier."""
    choice = WeightsChoice(
        architecture, "none", preprocess=write_preprocess(folder), num_classes=CLASSES, **changes
    )
    return resolve(choice, quiet())


def quiet():
    return Console(quiet=True)


def traced(network, *shape, dtype=torch.float32):
    with jit_warnings_ignored(), torch.inference_mode():
        return torch.jit.trace(network.eval(), torch.rand(shape or (2, 3, 64, 64)).to(dtype))


def save(module, file):
    with jit_warnings_ignored():
        torch.jit.save(module, file)
    return file
