"""TorchScript: fp32 channels-last on a CPU, FP16 channels-last on CUDA."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec
from models.engines.base import EngineOptions
from models.engines.torch_engine import Graph, TorchEngine
from models.errors import EngineError, ModelError
from models.networks.graph import build_graph, compile_graph, jit_warnings_ignored


def load(bundle: ModelBundle, options: EngineOptions) -> TorchEngine:
    """Loads a compiled graph as it is, or builds the architecture, loads its weights and traces it.

    Raises:
        EngineError: the file does not load, or was built for a device that is not here.
    """
    spec = resolve(bundle, options)
    if spec.quantized_engine:
        choose_quantized_engine(bundle.file, spec.quantized_engine)
    sizes = options.prepared_sizes if spec.quantized_engine else (1,)
    graph: Graph
    if spec.holds_weights:
        graph = _trace_weights(bundle, spec)
    elif len(sizes) == 1:
        graph = load_module(bundle.file, spec.device)
    else:
        graph = SizedGraphs({size: load_module(bundle.file, spec.device) for size in sizes})
    engine = TorchEngine(graph, spec, bundle.spec.preprocess.crop_size, bundle.spec.num_classes)
    _check_output(engine, bundle, sizes)
    return engine


class SizedGraphs:
    """Copies of an int8 graph, one per batch size; other sizes go to the one for the largest.

    oneDNN's int8 operators keep what they have prepared for the size of their first batch, and prepare any other
    size again each time, for 1.5 to 2 ms per batch: each copy is to be run with its own size first.
    """

    def __init__(self, graphs: Mapping[int, Graph]) -> None:
        self._graphs = graphs
        self._for_others = graphs[max(graphs)]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._graphs.get(len(images), self._for_others)(images)


def choose_quantized_engine(file: Path, name: str) -> None:
    """Sets torch's backend for int8 operators, which their weights are packed for when a graph is loaded.

    Raises:
        EngineError: this build of torch, or this processor, lacks it.
    """
    if name not in torch.backends.quantized.supported_engines:
        raise EngineError(f"{file}: needs torch's int8 backend {name!r}, which is not available here")
    torch.backends.quantized.engine = name


def load_module(file: Path, device: str) -> torch.jit.ScriptModule:
    """torch.jit.load with its failures turned into one line.

    Raises:
        EngineError: not TorchScript, or damaged.
    """
    try:
        return _load_module(file, device)
    except (RuntimeError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise EngineError(f"{file}: not a TorchScript file, damaged, or not loadable here: {reason}") from None


def _load_module(file: Path, device: str) -> torch.jit.ScriptModule:
    try:
        with jit_warnings_ignored():
            module: torch.jit.ScriptModule = torch.jit.load(file, map_location=device)
    except RuntimeError as error:
        if "torchvision::" not in str(error) or "torchvision" in sys.modules:
            raise
        # It has operators of torchvision. Importing that takes longer than torch itself, and few files need it.
        import torchvision  # noqa: F401

        return _load_module(file, device)
    return module.eval()


def resolve(bundle: ModelBundle, options: EngineOptions) -> EngineSpec:
    """The bundle's engine spec with device, precision and threads settled for this machine.

    Raises:
        EngineError: built for another device, or the device is not here.
    """
    spec = bundle.spec.engine
    device = options.device
    if device == "auto":
        device = spec.device if spec.device != "any" else _best_device()
    if spec.device not in ("any", device):
        raise EngineError(f"{bundle.file}: built for device {spec.device!r}, not for {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError(f"{bundle.file}: device 'cuda' is not available on this machine")
    precision = "fp16" if spec.holds_weights and device == "cuda" else spec.precision
    threads = 0 if device == "cuda" else options.intra_op_threads or spec.threads
    return dataclasses.replace(
        spec, device=device, precision=precision, threads=threads, max_batch_size=options.max_batch_size
    )


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_network(bundle: ModelBundle) -> nn.Module:
    """The architecture with the bundle's weights, fp32, on the CPU. Raises EngineError where they do not fit."""
    from models.networks.architectures import build_network, load_weights  # imports torchvision

    try:
        spec = bundle.spec
        network = build_network(spec.architecture, spec.num_classes, options=spec.architecture_options)
        return load_weights(network, load_file(bundle.file))
    except (ModelError, SafetensorError) as error:
        reason = str(error) if isinstance(error, ModelError) else "not a safetensors file, or damaged"
        raise EngineError(f"{bundle.file}: {reason}") from None


def _trace_weights(bundle: ModelBundle, spec: EngineSpec) -> torch.jit.ScriptModule:
    device = torch.device(spec.device)
    channels_last = spec.memory_format == "channels_last"
    network, preprocess = load_network(bundle), bundle.spec.preprocess
    graph = build_graph(network, preprocess, spec.precision, device, channels_last, bundle.spec.activation)
    side = bundle.spec.preprocess.crop_size
    return compile_graph(graph, torch.zeros(2, side, side, 3, dtype=torch.uint8, device=device))


def _check_output(engine: TorchEngine, bundle: ModelBundle, sizes: Iterable[int]) -> None:
    """Runs a batch of each size: the first that its graph sees."""
    side = bundle.spec.preprocess.crop_size
    for size in sizes:
        try:
            shape = engine.infer(np.zeros((size, side, side, 3), np.uint8)).shape
        except RuntimeError:
            raise EngineError(
                f"{bundle.file}: the graph does not run on uint8 [{size}, {side}, {side}, 3]"
            ) from None
        if shape != (size, bundle.spec.num_classes):
            raise EngineError(
                f"{bundle.file}: the graph's output has shape {list(shape)}, "
                f"expected [{size}, {bundle.spec.num_classes}]"
            )
