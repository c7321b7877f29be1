"""torchvision's eager fp32 network: the reference of every speed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from models.bundles.spec import EngineSpec
from models.optimize.candidates.base import Candidate, Job
from models.optimize.weights_file import write_weights


def build(job: Job, folder: Path) -> EngineSpec:
    """The weights as they are."""
    return dataclasses.replace(write_weights(job.network, folder, job.max_batch_size), kind="eager", device="cpu")


FP32 = Candidate("eager-fp32", "cpu", "fp32", build, is_reference=True, typical_s=15)
