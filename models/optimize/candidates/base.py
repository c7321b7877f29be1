"""What a candidate is: one way to run a network on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.bundles.spec import EngineSpec, PreprocessSpec
from models.images.preprocess import Pixels
from models.optimize.weights import NETWORK, PublishedInt8


def _no_pixels() -> Pixels:
    return np.empty((0, 0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Job:
    """What every candidate starts from.

    Attributes:
        network: fp32 (a program in its own precision), on the CPU, in eval mode: normalised float [N, 3, H, W] ->
            logits. Not to be changed.
        preprocess: holds the normalisation that goes into the graph.
        batch_sizes: that the engine will be timed at.
        calibration: uint8 [N, crop_size, crop_size, 3], images whose activations show what int8 must span.
        published: int8 weights that were published with an accuracy, or None.
        activation: what makes scores of the logits, one of `models.bundles.spec.ACTIVATIONS`.
    """

    network: nn.Module
    preprocess: PreprocessSpec
    batch_sizes: tuple[int, ...]
    calibration: Pixels = field(default_factory=_no_pixels)
    published: PublishedInt8 | None = None
    activation: str = "softmax"

    @property
    def max_batch_size(self) -> int:
        """The largest of the batch sizes."""
        return max(self.batch_sizes)

    def example(self, device: str = "cpu") -> torch.Tensor:
        """Black images to record a run with: two, so that no size of 1 is recorded as fixed."""
        side = self.preprocess.crop_size
        return torch.zeros(2, side, side, 3, dtype=torch.uint8, device=device)


def everywhere() -> bool:
    """True: a candidate that runs on every machine."""
    return True


@dataclass(frozen=True)
class Candidate:
    """One way to run a network. Can be sent to another process.

    Attributes:
        name: unique; its files begin with it.
        device: "cpu" or "cuda"; where the graph runs.
        precision: one of `models.bundles.spec.PRECISIONS`.
        build: writes the engine's files into a folder and returns its spec, with empty hashes. What it raises
            is the reason why the candidate is out.
        runs_here: whether this machine can build and run it.
        has_streams: whether parts of a batch can run at the same time.
        servable: whether it leaves the interpreter to others while it runs.
        is_reference: eager fp32, or a file as it is, which is timed for comparison and has nothing to prove.
        is_published: whether its weights were published with an accuracy.
        typical_s: seconds that a ResNet18 takes, about, to be built, compared and timed once on two AVX2 cores;
            what a budget leaves no time for is not begun.
        is_optional: tried only when it is asked for by name.
        sources: what it can be built from: "network" and some of `models.networks.programs.FORMATS`.
    """

    name: str
    device: str
    precision: str
    build: Callable[[Job, Path], EngineSpec]
    runs_here: Callable[[], bool] = everywhere
    has_streams: bool = False
    servable: bool = True
    is_reference: bool = False
    is_published: bool = False
    typical_s: float = 10.0
    is_optional: bool = False
    sources: tuple[str, ...] = (NETWORK,)
