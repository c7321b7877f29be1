"""torchvision's own int8 weights, which were published with their accuracy on ImageNet."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import torch
from torchvision.models import quantization

from models.bundles.spec import EngineSpec
from models.errors import ModelError
from models.machine.processor import saturates_int8
from models.networks.graph import ServingGraph, trace_or_script
from models.optimize.candidates.base import Candidate, Job
from models.optimize.candidates.torchscript import save
from models.optimize.weights import PublishedInt8


def build(job: Job, folder: Path) -> EngineSpec:
    """Raises ModelError where torchvision has published none for these weights, or they could not be had."""
    if job.published is None:
        raise ModelError("torchvision has no int8 weights of this model, or they could not be downloaded")
    engine = backend(job.published)
    torch.backends.quantized.engine = engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are deprecated and work
        network = quantization.__dict__[job.published.architecture](weights=None, quantize=True)
        network.load_state_dict(torch.load(job.published.file, map_location="cpu", weights_only=True))
        graph = ServingGraph(network.eval(), job.preprocess, activation=job.activation).eval()
        compiled, _ = trace_or_script(graph, job.example())
    spec = save(compiled, folder / "published-int8.ts", job, "int8", "cpu", engine)
    return dataclasses.replace(spec, reduce_range=job.published.reduce_range)


def backend(published: PublishedInt8) -> str:
    """torch's int8 backend for the weights: the fastest that does not saturate with them on this processor."""
    if saturates_int8() and not published.reduce_range:
        return "qnnpack"  # adds up in 32 bits
    return "x86" if "x86" in torch.backends.quantized.supported_engines else "onednn"


INT8 = Candidate("published-int8", "cpu", "int8", build, is_published=True)
