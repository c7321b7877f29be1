"""TorchScript: fp32 channels-last on a CPU, FP16 channels-last on CUDA."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.architectures import build_network, load_weights
from models.bundle import ModelBundle
from models.engines.base import Batch, EngineOptions, Probabilities
from models.errors import EngineError, ModelError
from models.graph import build_graph, compile_graph, jit_warnings_ignored
from models.spec import EngineSpec

_WARM_UP_RUNS = 2  # TorchScript profiles the first run and optimises in the second


class TorchScriptEngine:
    """Runs a frozen TorchScript graph: uint8 [N, H, W, 3] -> float32 [N, num_classes]."""

    def __init__(self, module: torch.jit.ScriptModule, spec: EngineSpec, crop_size: int, num_classes: int) -> None:
        self.spec = spec
        self.num_classes = num_classes
        self._module = module
        self._device = torch.device(spec.device)
        on_cuda = self._device.type == "cuda"
        shape = (spec.max_batch_size, crop_size, crop_size, 3)
        # Pinned, so that the copy to the device runs without a detour and without blocking this thread.
        self._staging = torch.zeros(shape, dtype=torch.uint8, pin_memory=on_cuda)
        self._staging_view = self._staging.numpy()
        self._input = torch.zeros(shape, dtype=torch.uint8, device=self._device) if on_cuda else self._staging
        if on_cuda:
            torch.backends.cudnn.benchmark = True

    @torch.inference_mode()
    def infer(self, batch: Batch) -> Probabilities:
        size = len(batch)
        if not 1 <= size <= self.spec.max_batch_size:
            raise ValueError(f"batch of {size}, expected 1 to {self.spec.max_batch_size}")
        for row, image in enumerate(batch):
            self._staging_view[row] = image
        images = self._input[:size]
        if self._device.type == "cuda":
            images.copy_(self._staging[:size], non_blocking=True)
        # The copy back waits for the device, after which the staging buffer may be written again.
        probabilities: Probabilities = self._module(images).cpu().numpy()
        return probabilities

    def warm_up(self) -> None:
        # cuDNN searches its algorithms anew for every batch size; on a CPU a new size costs nothing to speak of.
        sizes = range(1, self.spec.max_batch_size + 1)
        for size in sizes if self._device.type == "cuda" else {sizes[0], sizes[-1]}:
            for _ in range(_WARM_UP_RUNS):
                self.infer(np.zeros((size, *self._staging_view.shape[1:]), np.uint8))

    def close(self) -> None:
        del self._module, self._input, self._staging_view, self._staging
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def load(bundle: ModelBundle, options: EngineOptions) -> TorchScriptEngine:
    """Loads a compiled graph as it is, or builds the architecture, loads its weights and traces it.

    Raises:
        EngineError: the file does not load, or was built for a device that is not here.
    """
    spec = resolve(bundle, options)
    module = _trace_weights(bundle, spec) if spec.holds_weights else load_module(bundle.file, spec.device)
    engine = TorchScriptEngine(module, spec, bundle.spec.preprocess.crop_size, bundle.spec.num_classes)
    _check_output(engine, bundle)
    return engine


def load_module(file: Path, device: str) -> torch.jit.ScriptModule:
    """torch.jit.load with its failures turned into one line.

    Raises:
        EngineError: not TorchScript, or damaged.
    """
    try:
        with jit_warnings_ignored():
            module: torch.jit.ScriptModule = torch.jit.load(file, map_location=device).eval()
            return module
    except (RuntimeError, ValueError, OSError):
        raise EngineError(f"{file}: not a TorchScript file, or damaged") from None


def resolve(bundle: ModelBundle, options: EngineOptions) -> EngineSpec:
    """The bundle's engine spec with device and precision settled for this machine; sets torch's threads.

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
    if options.intra_op_threads and device == "cpu":
        torch.set_num_threads(options.intra_op_threads)
    precision = "fp16" if spec.holds_weights and device == "cuda" else spec.precision
    return dataclasses.replace(spec, device=device, precision=precision, max_batch_size=options.max_batch_size)


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _trace_weights(bundle: ModelBundle, spec: EngineSpec) -> torch.jit.ScriptModule:
    try:
        network = build_network(bundle.spec.architecture, bundle.spec.num_classes)
        load_weights(network, load_file(bundle.file))
    except (ModelError, SafetensorError) as error:
        reason = str(error) if isinstance(error, ModelError) else "not a safetensors file, or damaged"
        raise EngineError(f"{bundle.file}: {reason}") from None
    device = torch.device(spec.device)
    channels_last = spec.memory_format == "channels_last"
    graph = build_graph(network, bundle.spec.preprocess, spec.precision, device, channels_last)
    side = bundle.spec.preprocess.crop_size
    return compile_graph(graph, torch.zeros(2, side, side, 3, dtype=torch.uint8, device=device))


def _check_output(engine: TorchScriptEngine, bundle: ModelBundle) -> None:
    side = bundle.spec.preprocess.crop_size
    try:
        shape = engine.infer(np.zeros((1, side, side, 3), np.uint8)).shape
    except RuntimeError:
        raise EngineError(f"{bundle.file}: the graph does not run on uint8 [1, {side}, {side}, 3]") from None
    if shape != (1, bundle.spec.num_classes):
        raise EngineError(
            f"{bundle.file}: the graph's output has shape {list(shape)}, expected [1, {bundle.spec.num_classes}]"
        )
