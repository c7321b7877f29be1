"""Ways to run a network on this machine. Each builds one graph file; the optimiser checks and times it.

A new precision or backend joins by one more entry in `CANDIDATES`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models.graph import build_graph, jit_warnings_ignored, trace_or_script
from models.spec import EngineSpec, PreprocessSpec


@dataclass(frozen=True)
class Job:
    """What every candidate starts from.

    Attributes:
        network: fp32, on the CPU, in eval mode: normalised float [N, 3, H, W] -> logits. Not to be changed.
        preprocess: holds the normalisation that goes into the graph.
        max_batch_size: largest batch that the engine will be asked for.
    """

    network: nn.Module
    preprocess: PreprocessSpec
    max_batch_size: int


@dataclass(frozen=True)
class Candidate:
    """One way to run a network.

    Attributes:
        name: unique, a folder name.
        device: "cpu" or "cuda"; where the graph runs.
        precision: one of `models.spec.PRECISIONS`.
        build: writes the graph into a folder and returns its spec, with an empty hash. Raises ModelError.
        runs_here: whether this machine can build and run it.
    """

    name: str
    device: str
    precision: str
    build: Callable[[Job, Path], EngineSpec]
    runs_here: Callable[[], bool] = lambda: True


def torchscript(device: str, precision: str) -> Candidate:
    """A frozen trace, channels-last. Half precision builds on a CPU too, where it is slow but can be tested."""

    def build(job: Job, folder: Path) -> EngineSpec:
        graph = build_graph(
            copy.deepcopy(job.network), job.preprocess, precision, torch.device(device), channels_last=True
        )
        side = job.preprocess.crop_size
        example = torch.zeros(2, side, side, 3, dtype=torch.uint8, device=device)
        compiled, _ = trace_or_script(graph, example)
        # Not optimize_for_inference: what it makes does not run after saving and loading.
        with jit_warnings_ignored():
            torch.jit.save(compiled, folder / "model.ts")
        return EngineSpec(
            kind="torchscript",
            file="model.ts",
            sha256="",
            precision=precision,
            device=device,
            max_batch_size=job.max_batch_size,
        )

    return Candidate(
        f"torchscript-{precision}-{device}", device, precision, build, lambda: device == "cpu" or has_cuda()
    )


def has_cuda() -> bool:
    return torch.cuda.is_available()


CANDIDATES = (torchscript("cpu", "fp32"), torchscript("cuda", "fp16"))


def candidates_for(device: str) -> list[Candidate]:
    """Those that run on `device` ("cpu" or "cuda") of this machine; may be empty."""
    return [candidate for candidate in CANDIDATES if candidate.device == device and candidate.runs_here()]
