"""torchvision's own int8 weights, which were published with their accuracy on ImageNet."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torchvision.models import quantization

from models.errors import ModelError
from models.graph import ServingGraph, trace_or_script
from models.optimize.candidates.base import Candidate, Job
from models.optimize.candidates.torchscript import save
from models.spec import EngineSpec


def build(job: Job, folder: Path) -> EngineSpec:
    """Raises ModelError where torchvision has published none for these weights, or they could not be had."""
    if job.published is None:
        raise ModelError("torchvision has no int8 weights of this model, or they could not be downloaded")
    engine = "x86" if "x86" in torch.backends.quantized.supported_engines else "onednn"
    torch.backends.quantized.engine = engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are deprecated and work
        network = quantization.__dict__[job.published.architecture](weights=None, quantize=True)
        network.load_state_dict(torch.load(job.published.file, map_location="cpu", weights_only=True))
        graph = ServingGraph(network.eval(), job.preprocess).eval()
        compiled, _ = trace_or_script(graph, job.example())
    return save(compiled, folder / "published-int8.ts", job, "int8", "cpu", engine)


INT8 = Candidate("published-int8", "cpu", "int8", build, is_published=True)
