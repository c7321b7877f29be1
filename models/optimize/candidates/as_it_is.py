"""A program as it was given: the reference of every speed."""

from __future__ import annotations

from pathlib import Path

from models.bundles.spec import EngineSpec
from models.networks.programs import FORMATS, PROGRAM_ENGINE
from models.optimize.candidates.base import Candidate, Job
from models.optimize.program import Program


def build(job: Job, folder: Path) -> EngineSpec:
    """A copy of the file."""
    assert isinstance(job.network, Program)
    return job.network.write(folder, job.max_batch_size)


PROGRAM = Candidate(PROGRAM_ENGINE, "cpu", "fp32", build, is_reference=True, typical_s=15, sources=FORMATS)
