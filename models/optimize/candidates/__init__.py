"""Ways to run a network on this machine. Each builds one engine; the optimiser checks and times it.

A new precision or backend joins by one more entry in `CANDIDATES`.
"""

from __future__ import annotations

from models.optimize.candidates import aotinductor, as_it_is, cuda, eager, fx, openvino, published, torchscript
from models.optimize.candidates.base import Candidate, Job
from models.optimize.weights import NETWORK

__all__ = ["CANDIDATES", "Candidate", "Job", "candidates_for"]

# In the order in which they are tried: where time is short, what is cheap and promising comes first.
CANDIDATES: tuple[Candidate, ...] = (
    openvino.FP32,
    openvino.INT8,
    as_it_is.PROGRAM,
    torchscript.FP32,
    published.INT8,
    fx.ONEDNN,
    fx.X86,
    openvino.BF16,
    torchscript.BF16,
    eager.FP32,
    aotinductor.FP32,
    torchscript.FP16_CUDA,
    cuda.GRAPHS,
    cuda.EAGER,
    cuda.COMPILE,
)


def candidates_for(device: str, source: str = NETWORK) -> list[Candidate]:
    """Those that run on `device` ("cpu" or "cuda") of this machine; may be empty.

    Args:
        device: where the model will run.
        source: what they are built from: "network" or one of `models.networks.programs.FORMATS`.
    """
    here = (candidate for candidate in CANDIDATES if candidate.device == device and candidate.runs_here())
    return [candidate for candidate in here if source in candidate.sources]
