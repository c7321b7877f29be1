"""A bare TorchScript file in the serving graph: normalisation before it, softmax after it where it has none."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from models.bundle import ModelBundle
from models.engines.base import EngineOptions
from models.engines.torch_engine import TorchEngine
from models.engines.torchscript import load_module, resolve
from models.errors import EngineError
from models.graph import DTYPES, ServingGraph, jit_warnings_ignored
from models.spec import EngineSpec

_PROBES = 4
_SUM_TOLERANCE = 1e-3


def load(bundle: ModelBundle, options: EngineOptions) -> TorchEngine:
    """Wraps the file into uint8 [N, crop, crop, 3] -> probabilities float32 [N, num_classes].

    Raises:
        EngineError: the file does not load, does not take such pictures, or has not one class per label.
    """
    spec = resolve(bundle, options)
    module = load_module(bundle.file, spec.device)
    spec, graph, outputs = _fit(module, bundle, spec)
    _check_classes(outputs, bundle)
    if not outputs.isfinite().all():
        raise EngineError(f"{bundle.file}: the output is not finite")
    graph.softmax = not are_probabilities(outputs)
    return TorchEngine(_compile(graph), spec, bundle.spec.preprocess.crop_size, bundle.spec.num_classes)


def are_probabilities(outputs: torch.Tensor) -> bool:
    """Whether every row of float [N, num_classes] is already what a softmax would give."""
    sums = outputs.sum(dim=1)
    return bool((outputs >= 0).all()) and bool(((sums - 1).abs() <= _SUM_TOLERANCE).all())


def _check_classes(outputs: torch.Tensor, bundle: ModelBundle) -> None:
    if outputs.dim() != 2 or len(outputs) != _PROBES:
        shape = list(outputs.shape)
        raise EngineError(f"{bundle.file}: answers {_PROBES} pictures with shape {shape}, expected one row each")
    if outputs.shape[1] != bundle.spec.num_classes:
        raise EngineError(
            f"{bundle.file}: has {outputs.shape[1]} classes, "
            f"but {bundle.spec.labels} has {bundle.spec.num_classes} labels"
        )


def _precisions(module: nn.Module) -> list[str]:
    """The precision of the first floating parameter; frozen and quantised models have none: one of these."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    found = [names[parameter.dtype] for parameter in module.parameters() if parameter.dtype in names]
    return found[:1] or ["fp32", "fp16"]


def _fit(
    module: nn.Module, bundle: ModelBundle, spec: EngineSpec
) -> tuple[EngineSpec, ServingGraph, torch.Tensor]:
    """The spec with its precision, the graph without softmax, and its float32 outputs for seeded pictures.

    Channels-last is faster, but a recorded `view` may refuse it or, in principle, read it wrongly.
    """
    side = bundle.spec.preprocess.crop_size
    shape = (_PROBES, side, side, 3)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(spec.device)
    for precision in _precisions(module):
        spec = dataclasses.replace(spec, precision=precision)
        plain = _graph(module, bundle, spec, channels_last=False)
        outputs = _outputs(plain, pictures)
        if outputs is None:
            continue
        fast = _graph(module, bundle, spec, channels_last=True)
        again = _outputs(fast, pictures)
        same = again is not None and torch.allclose(again, outputs, rtol=0.02, atol=1e-3, equal_nan=True)
        return spec, fast if same else plain, outputs
    hint = "" if spec.device == "cpu" else "; if it was made for a CPU, choose device 'cpu'"
    raise EngineError(f"{bundle.file}: does not run on normalised float [{_PROBES}, 3, {side}, {side}]{hint}")


def _graph(module: nn.Module, bundle: ModelBundle, spec: EngineSpec, channels_last: bool) -> ServingGraph:
    graph = ServingGraph(
        module, bundle.spec.preprocess, spec.precision, softmax=False, channels_last=channels_last
    )
    return graph.eval().to(spec.device)


@torch.inference_mode()
def _outputs(graph: ServingGraph, pictures: torch.Tensor) -> torch.Tensor | None:
    try:
        outputs: torch.Tensor = graph(pictures)
    # RuntimeError for what torch refuses, AttributeError where the output is no tensor.
    except (RuntimeError, AttributeError):
        return None
    return outputs


def _compile(graph: ServingGraph) -> torch.jit.ScriptModule:
    with jit_warnings_ignored(), torch.inference_mode():
        scripted = torch.jit.script(graph)
        try:
            compiled: torch.jit.ScriptModule = torch.jit.freeze(scripted)
        except RuntimeError:
            # Modules frozen before they were saved, and some quantised ones, cannot be frozen again.
            compiled = scripted
    return compiled
