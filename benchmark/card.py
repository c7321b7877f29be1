"""The graphics card: what it is, and how long it takes by its own clock."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import torch

from models.engines.base import Engine
from models.engines.graph_engine import GraphEngine
from models.engines.torch_engine import TorchEngine

_FACTS = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit,pcie.link.gen.current"


def describe_gpu() -> dict[str, Any] | None:
    """Card, driver, CUDA and cuDNN, as they were found; None where there is no card."""
    if not torch.cuda.is_available():
        return None
    cudnn: Any = torch.backends.cudnn  # has no types
    return {
        "name": torch.cuda.get_device_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
        **_driver_facts(),
    }


def _driver_facts() -> dict[str, str]:
    if shutil.which("nvidia-smi") is None:
        return {}
    words = ["nvidia-smi", f"--query-gpu={_FACTS}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    names = _FACTS.split(",")
    return dict(zip(names, values, strict=True)) if len(values) == len(names) else {}


def on_device(engine: Engine, size: int) -> Callable[[], object]:
    """Asks the card for the work of a batch that lies there already, without copies and without waiting."""
    if isinstance(engine, GraphEngine):
        stream = torch.cuda.current_stream()
        return lambda: engine.launch(size, stream)
    assert isinstance(engine, TorchEngine)
    module, pixels = engine._module, engine._input[:size]  # what `infer` runs, between its copies
    return lambda: module(pixels)


@torch.inference_mode()
def device_ms(engine: Engine, size: int, repeats: int = 10) -> float:
    """Milliseconds of a batch by the card's events: the mean of `repeats` that were asked for at once.

    Small batches of an engine that asks for each operator take as long as the asking.
    """
    ask = on_device(engine, size)
    event: Any = torch.cuda.Event  # has no types
    begun, ended = event(enable_timing=True), event(enable_timing=True)
    ask()
    torch.cuda.synchronize()
    begun.record()
    for _ in range(repeats):
        ask()
    ended.record()
    ended.synchronize()
    return float(begun.elapsed_time(ended)) / repeats
