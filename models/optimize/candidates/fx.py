"""int8 by FX graph mode post-training quantisation, calibrated on images, in a TorchScript graph."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import nn

from models.bundles.spec import EngineSpec
from models.errors import ModelError
from models.machine.processor import saturates_int8
from models.networks.graph import ServingGraph, trace_or_script
from models.optimize.candidates.base import Candidate, Job
from models.optimize.candidates.torchscript import save

_CALIBRATION_BATCH = 8


def build(job: Job, folder: Path, engine: str) -> EngineSpec:
    """Quantises weights per channel and activations per tensor, for one of torch's int8 backends.

    Activations have 7 bits where the processor needs them, and always for `x86`: it computes with FBGEMM, without
    VNNI instructions, wherever oneDNN cannot.

    Raises:
        ModelError: there are no images to calibrate on.
    """
    torch.backends.quantized.engine = engine
    reduce_range = engine == "x86" or saturates_int8()
    graph = ServingGraph(quantize(job, reduce_range), job.preprocess, activation=job.activation).eval()
    compiled, _ = trace_or_script(graph, job.example())
    spec = save(compiled, folder / f"fx-int8-{engine}.ts", job, "int8", "cpu", engine)
    return dataclasses.replace(spec, reduce_range=reduce_range)


def quantize(job: Job, reduce_range: bool) -> nn.Module:
    """The network in int8: normalised float [N, 3, H, W] -> logits float [N, num_classes].

    Args:
        job: the network and the images to calibrate on.
        reduce_range: activations 0 ... 127 instead of 0 ... 255.
    """
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    if not len(job.calibration):
        raise ModelError("there are no images to calibrate on")
    normalise = ServingGraph(nn.Identity(), job.preprocess, activation="none", channels_last=False).eval()
    # Deprecated since torch 2.10 in favour of torchao, which was not faster here (docs/performance.md).
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        # The two mappings differ in nothing else.
        mapping = get_default_qconfig_mapping("x86" if reduce_range else "onednn")
        observed = prepare_fx(copy.deepcopy(job.network), mapping, (normalise(job.example()),))
        observe(observed, normalise, job)
        quantised: nn.Module = convert_fx(observed)
    return quantised


def observe(observed: nn.Module, normalise: nn.Module, job: Job) -> None:
    """Shows the calibration images to a network that notes the range of its activations."""
    for batch in torch.from_numpy(job.calibration).split(_CALIBRATION_BATCH):
        observed(normalise(batch))


def runs_here(engine: str) -> bool:
    """Whether torch has the quantization backend."""
    fx = importlib.util.find_spec("torch.ao.quantization") is not None
    return fx and engine in torch.backends.quantized.supported_engines


def candidate(engine: str) -> Candidate:
    """int8 with that backend of torch's: which is faster depends on the processor."""
    name = f"fx-int8-{engine}"
    return Candidate(name, "cpu", "int8", partial(build, engine=engine), partial(runs_here, engine), typical_s=30)


ONEDNN, X86 = candidate("onednn"), candidate("x86")
