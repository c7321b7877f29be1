"""A bare TorchScript file in the serving graph: normalisation before it, activation after it where it has none."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec
from models.engines.bare_outputs import Pair
from models.engines.bare_way import Opened, examine
from models.engines.base import EngineOptions
from models.engines.converted import converted
from models.engines.load_checks import is_quantised, move_constants, probes
from models.engines.torch_engine import TorchEngine
from models.engines.torchscript import load_module, resolve

CONVERTED = "bare-openvino"  # kind of an engine whose graph OpenVINO runs
_WORTH_IT = 4_000_000  # bytes of a file; the small networks of smaller ones are fast enough


def load(bundle: ModelBundle, options: EngineOptions) -> TorchEngine:
    """Wraps the file into uint8 [N, crop, crop, 3] -> scores float32 [N, num_classes].

    Raises:
        EngineError: the file does not load, does not take such images, has not one class per label, or answers an
            image differently from time to time; one line that names the file and says what to do.
    """
    spec = resolve(bundle, options)
    module = load_module(bundle.file, spec.device)
    move_constants(module, spec.device)
    return engine_of(Opened(module, module), bundle, spec)


def engine_of(opened: Opened, bundle: ModelBundle, spec: EngineSpec) -> TorchEngine:
    """The same of a program that was read already. Raises EngineError."""
    found = examine(opened, bundle, spec)
    side = bundle.spec.preprocess.crop_size
    graph = found.way.compiled(found.activation)
    faster = _faster(graph, opened, bundle, spec) if found.way.precision == "fp32" else None
    runs = faster or graph
    classes = bundle.spec.num_classes or found.columns
    if found.columns != classes:
        runs = Pair(runs)
    resolved = dataclasses.replace(
        spec,
        kind=CONVERTED if faster else spec.kind,
        precision=found.way.precision,
        activation=found.activation,
        output=found.way.output,
    )
    engine = TorchEngine(runs, resolved, side, classes)
    engine.notices = found.notices
    return engine


def _faster(graph: nn.Module, opened: Opened, bundle: ModelBundle, spec: EngineSpec) -> nn.Module | None:
    """The same graph run by OpenVINO, where that pays and is possible."""
    if spec.device != "cpu" or not isinstance(graph, torch.jit.ScriptModule) or is_quantised(opened.record):
        return None
    if bundle.file.stat().st_size < _WORTH_IT:
        return None
    with torch.inference_mode():
        return converted(graph, probes(bundle.spec.preprocess.crop_size, spec.device), spec.threads)
