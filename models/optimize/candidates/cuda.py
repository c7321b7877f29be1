"""FP16 on a CUDA card beside the traced graph: eager, compiled by torch.compile, replayed from CUDA graphs."""

from __future__ import annotations

import dataclasses
import importlib.util
from functools import partial
from pathlib import Path

from models.bundles.spec import EngineSpec
from models.optimize.candidates import torchscript
from models.optimize.candidates.base import Candidate, Job
from models.optimize.candidates.torchscript import has_cuda
from models.optimize.weights_file import write_weights


def build_graphs(job: Job, folder: Path, device: str = "cuda") -> EngineSpec:
    """The traced FP16 graph, under a name of its own: one bundle holds the files of several candidates."""
    spec = torchscript.build(job, folder, device, "fp16")
    file = (folder / spec.file).rename(folder / "cuda-graphs-fp16.ts")
    return dataclasses.replace(spec, kind="cuda-graphs", file=file.name)


def build_weights(job: Job, folder: Path, kind: str) -> EngineSpec:
    """The weights as they are, for an engine that prepares them where it is loaded."""
    spec = write_weights(job.network, folder, job.max_batch_size)
    return dataclasses.replace(spec, kind=kind, device="cuda", precision="fp16")


def can_compile() -> bool:
    """Whether there is a CUDA device, and Triton."""
    return has_cuda() and importlib.util.find_spec("triton") is not None


# On a fast card Python takes longer to ask for eager's operators than the card to run them, and holds the lock.
EAGER = Candidate(
    "eager-fp16",
    "cuda",
    "fp16",
    partial(build_weights, kind="eager"),
    has_cuda,
    servable=False,
    is_reference=True,
)
GRAPHS = Candidate("cuda-graphs-fp16", "cuda", "fp16", build_graphs, has_cuda)
# Its runs release the lock, but every start of a worker would compile for minutes and hold it. Until it has been
# measured to be worth that, it is timed, and not served.
COMPILE = Candidate(
    "compile-fp16",
    "cuda",
    "fp16",
    partial(build_weights, kind="torch-compile"),
    can_compile,
    servable=False,
    typical_s=120,
    is_optional=True,
)
