"""OpenVINO on a CPU: fp32, bf16 or int8. Runs outside the interpreter lock and needs no torch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import openvino

from models.bundle import ModelBundle
from models.engines.base import Batch, EngineOptions, Probabilities
from models.errors import EngineError
from models.spec import EngineSpec

# Without it OpenVINO takes bf16 for fp32 graphs wherever the processor has it.
_ARITHMETIC = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """Runs an OpenVINO graph: uint8 [N, H, W, 3] -> float32 [N, num_classes].

    A batch is cut into as many parts as there are streams; each stream has its share of the threads.
    """

    def __init__(self, model: Any, spec: EngineSpec, crop_size: int, num_classes: int) -> None:
        self.spec = spec
        self.num_classes = num_classes
        self._requests = [model.create_infer_request() for _ in range(spec.streams)]
        self._staging = np.zeros((spec.max_batch_size, crop_size, crop_size, 3), np.uint8)

    def infer(self, batch: Batch) -> Probabilities:
        size = len(batch)
        if not 1 <= size <= self.spec.max_batch_size:
            raise ValueError(f"batch of {size}, expected 1 to {self.spec.max_batch_size}")
        for row, image in enumerate(batch):
            self._staging[row] = image
        parts = np.array_split(self._staging[:size], min(size, len(self._requests)))
        running = list(zip(self._requests, parts, strict=False))
        for request, part in running:
            request.set_input_tensor(openvino.Tensor(part, shared_memory=True))
            request.start_async()
        for request, _ in running:
            request.wait()
        return np.concatenate([request.get_output_tensor().data for request, _ in running])

    def warm_up(self) -> None:
        for size in {1, self.spec.max_batch_size}:
            self.infer(np.zeros((size, *self._staging.shape[1:]), np.uint8))

    def close(self) -> None:
        del self._requests


def load(bundle: ModelBundle, options: EngineOptions) -> OpenVinoEngine:
    """Compiles the graph for this processor.

    Raises:
        EngineError: damaged, for another device, or with another output than the bundle says.
    """
    spec = bundle.spec.engine
    if options.device not in ("auto", "cpu"):
        raise EngineError(f"{bundle.file}: built for device 'cpu', not for {options.device!r}")
    threads = options.intra_op_threads or spec.threads
    streams = options.streams or spec.streams
    streams = min(streams, threads) if threads else streams
    spec = dataclasses.replace(spec, threads=threads, streams=streams, max_batch_size=options.max_batch_size)
    try:
        model = openvino.Core().compile_model(bundle.file, "CPU", _settings(spec))
        engine = OpenVinoEngine(model, spec, bundle.spec.preprocess.crop_size, bundle.spec.num_classes)
        shape = engine.infer(np.zeros((1, *engine._staging.shape[1:]), np.uint8)).shape
    except RuntimeError:
        raise EngineError(f"{bundle.file}: OpenVINO cannot load or run it") from None
    if shape != (1, bundle.spec.num_classes):
        raise EngineError(
            f"{bundle.file}: the graph's output has shape {list(shape)}, expected [1, {bundle.spec.num_classes}]"
        )
    return engine


def _settings(spec: EngineSpec) -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": spec.threads,
        "NUM_STREAMS": spec.streams,
        "INFERENCE_PRECISION_HINT": _ARITHMETIC[spec.precision],
        # Threads that are pinned to a core wait there for the decode threads which share it.
        "ENABLE_CPU_PINNING": False,
    }
