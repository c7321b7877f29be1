"""Ways to run a network on this machine. Each builds one engine; the optimiser checks and times it.

A new precision or backend joins by one more entry in `CANDIDATES`.
"""

from __future__ import annotations

from models.optimize.candidates import aotinductor, as_it_is, cuda, eager, fx, openvino, published, torchscript
from models.optimize.candidates.base import Candidate, Job
from models.optimize.weights import NETWORK

__all__ = ["CANDIDATES", "Candidate", "Job", "candidates_for"]

CANDIDATES: tuple[Candidate, ...] = (
    eager.FP32,
    as_it_is.PROGRAM,
    torchscript.FP32,
    torchscript.BF16,
    fx.ONEDNN,
    fx.X86,
    published.INT8,
    aotinductor.FP32,
    openvino.FP32,
    openvino.BF16,
    openvino.INT8,
    torchscript.FP16_CUDA,
    cuda.EAGER,
    cuda.GRAPHS,
    cuda.COMPILE,
)


def candidates_for(device: str, quick: bool = False, source: str = NETWORK) -> list[Candidate]:
    """Those that run on `device` ("cpu" or "cuda") of this machine; may be empty.

    Args:
        device: where the model will run.
        quick: leave out those that take long to build.
        source: what they are built from: "network" or one of `models.programs.FORMATS`.
    """
    here = (candidate for candidate in CANDIDATES if candidate.device == device and candidate.runs_here())
    here = (candidate for candidate in here if source in candidate.sources)
    return [candidate for candidate in here if not (quick and candidate.is_slow_to_build)]
