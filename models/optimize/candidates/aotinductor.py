"""AOTInductor fp32: the exported graph compiled to native code, weights frozen into it."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import torch

from models.bundles.spec import EngineSpec
from models.engines.aotinductor import load_package
from models.errors import ModelError
from models.networks.graph import build_graph
from models.optimize.candidates.base import Candidate, Job
from models.torch_private import compile_aoti_package


def build(job: Job, folder: Path) -> EngineSpec:
    """Exports with a dynamic batch, compiles, and checks that the weights were frozen, which is half the speed.

    Raises:
        ModelError: freezing was not in force.
    """
    graph = build_graph(
        copy.deepcopy(job.network), job.preprocess, "fp32", torch.device("cpu"), True, job.activation
    )
    file = folder / "aotinductor-fp32.pt2"
    batch = torch.export.Dim("batch", min=1, max=job.max_batch_size)
    with torch.no_grad():  # freezing is silently left out where gradients are recorded
        program = torch.export.export(graph, (job.example(),), dynamic_shapes=({0: batch},))
        compile_aoti_package(program, file)
    if not is_frozen(file):
        raise ModelError("AOTInductor did not freeze the weights")
    return EngineSpec("aotinductor", file.name, "", device="cpu", max_batch_size=job.max_batch_size)


def is_frozen(file: Path) -> bool:
    """Whether the package's constants are those that freezing makes."""
    names = load_package(file).loader.get_constant_fqns()  # type: ignore[attr-defined]
    return any(name.startswith("_frozen_param") for name in names)


def has_compiler() -> bool:
    """Whether there is a C++ compiler."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


# It compiles for a minute and would not be served (models.engines.UNSERVABLE): for comparisons, by name.
FP32 = Candidate(
    "aotinductor-fp32", "cpu", "fp32", build, has_compiler, servable=False, typical_s=70, is_optional=True
)
