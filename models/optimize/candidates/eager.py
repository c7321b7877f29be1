"""torchvision's eager fp32 network: the reference of every speed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from safetensors.torch import save
from torch import nn

from models.optimize.candidates.base import Candidate, Job
from models.spec import EngineSpec


def build(job: Job, folder: Path) -> EngineSpec:
    """The weights as they are."""
    return dataclasses.replace(write_weights(job.network, folder, job.max_batch_size), kind="eager", device="cpu")


def write_weights(network: nn.Module, folder: Path, max_batch_size: int) -> EngineSpec:
    """Writes a network's weights and describes an engine that compiles them where it is loaded."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    # Not save_file, which writes a file that only its owner may read.
    (folder / "weights.safetensors").write_bytes(save(tensors))
    return EngineSpec("torchscript", "weights.safetensors", "", max_batch_size=max_batch_size)


FP32 = Candidate("eager-fp32", "cpu", "fp32", build, is_reference=True, typical_s=15)
