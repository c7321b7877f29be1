"""TorchScript, frozen, channels-last: the format that needs nothing but torch."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import torch

from models.bundles.spec import EngineSpec
from models.machine.processor import instructions
from models.networks.graph import build_graph, jit_warnings_ignored, trace_or_script
from models.optimize.candidates.base import Candidate, Job


def build(job: Job, folder: Path, device: str, precision: str) -> EngineSpec:
    """A frozen trace. Half precision builds on any CPU, where it may be slow but can be tested."""
    graph = build_graph(
        copy.deepcopy(job.network), job.preprocess, precision, torch.device(device), True, job.activation
    )
    compiled, _ = trace_or_script(graph, job.example(device))
    # Not optimize_for_inference: what it makes does not run after saving and loading.
    return save(compiled, folder / f"torchscript-{precision}.ts", job, precision, device)


def save(
    compiled: torch.jit.ScriptModule, file: Path, job: Job, precision: str, device: str, quantized_engine: str = ""
) -> EngineSpec:
    """Writes a compiled graph and describes it."""
    with jit_warnings_ignored():
        torch.jit.save(compiled, file)
    return EngineSpec(
        kind="torchscript",
        file=file.name,
        sha256="",
        precision=precision,
        device=device,
        max_batch_size=job.max_batch_size,
        quantized_engine=quantized_engine,
    )


def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()


def has_bf16() -> bool:
    """Whether the processor computes in bf16; elsewhere it is emulated and slow."""
    return bool(instructions() & {"avx512_bf16", "amx_bf16"})


FP32 = Candidate("torchscript-fp32", "cpu", "fp32", partial(build, device="cpu", precision="fp32"))
BF16 = Candidate("torchscript-bf16", "cpu", "bf16", partial(build, device="cpu", precision="bf16"), has_bf16)
FP16_CUDA = Candidate(
    "torchscript-fp16", "cuda", "fp16", partial(build, device="cuda", precision="fp16"), has_cuda
)
