"""Models for a server's `--model-store`: the digits demo in words, and programs with a constant each."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from benchmark.harness.server import ROOT
from models.networks.graph import jit_warnings_ignored

DEMO = ROOT / "models" / "demo"
DIGITS = tuple(sorted((ROOT / "images").glob("digit-*")))
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_words(folder: Path, words: Sequence[str] = WORDS) -> None:
    """A bundle that computes what the demo does, and says it in other words."""
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    labels = json.dumps(words).encode()
    (folder / "labels.json").write_bytes(labels)
    manifest = folder / "model.json"
    document = {**json.loads(manifest.read_text()), "labels_sha256": hashlib.sha256(labels).hexdigest()}
    manifest.write_text(json.dumps(document))


class Sum(nn.Module):
    """x: float32, any shape; returns x + constant, of the same shape."""

    def __init__(self, constant: float, weights_mb: float = 0.0) -> None:
        super().__init__()
        weights = torch.full((1 + int(weights_mb * 250_000),), constant)  # MB of 4-byte floats
        self.weights = nn.Parameter(weights, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum."""
        return x + self.weights[0]


class Means(nn.Module):
    """x: float32 [C, H, W]; returns the mean of each channel, [C]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The means."""
        return x.mean(dim=(1, 2))


def write_program(module: nn.Module, file: Path) -> None:
    """A TorchScript file of a module."""
    with jit_warnings_ignored():
        torch.jit.save(torch.jit.script(module.eval()), str(file))
