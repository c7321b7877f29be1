"""OpenVINO on a CPU: fp32, bf16 or int8. Runs outside the interpreter lock and needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import openvino

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec
from models.engines.base import Batch, EngineOptions, Probabilities
from models.engines.buckets import fitted
from models.errors import EngineError
from models.machine.resources import usable_cores
from models.machine.signal_stack import kept_signal_stack

# Without it OpenVINO takes bf16 for fp32 graphs wherever the processor has it.
_ARITHMETIC = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}


class _Piece(NamedTuple):
    """What one run of a graph does: `images` of a batch, the first at `start`, with a graph for `bucket`."""

    start: int
    images: int
    bucket: int


class OpenVinoEngine:
    """Runs an OpenVINO graph: uint8 [N, H, W, 3] -> float32 [N, num_classes].

    A batch is cut into as many parts as there are streams; each stream has its share of the threads.

    Args:
        streams: of each, the graphs by the number of images that they take.
    """

    def __init__(
        self, streams: Sequence[Mapping[int, Any]], spec: EngineSpec, crop_size: int, num_classes: int
    ) -> None:
        self.spec = spec
        self.num_classes = num_classes
        self._requests = [_requests(graphs) for graphs in streams]
        self._buckets = tuple(sorted(streams[0]))
        # The last graph may be larger than what is left for it.
        shape = (spec.max_batch_size + self._buckets[-1], crop_size, crop_size, 3)
        self._staging = np.zeros(shape, np.uint8)

    def infer(self, batch: Batch) -> Probabilities:
        """Runs a batch, in as many parts as there are streams; see `Engine.infer`."""
        size = len(batch)
        if not 1 <= size <= self.spec.max_batch_size:
            raise ValueError(f"batch of {size}, expected 1 to {self.spec.max_batch_size}")
        for row, image in enumerate(batch):
            self._staging[row] = image
        answers: dict[int, Probabilities] = {}
        for turn in zip_longest(*self._plan(size)):
            running = [(self._requests[stream][piece.bucket], piece) for stream, piece in enumerate(turn) if piece]
            for request, piece in running:
                pixels = self._staging[piece.start : piece.start + piece.bucket]
                request.set_input_tensor(openvino.Tensor(pixels, shared_memory=True))
                request.start_async()
            for request, piece in running:
                request.wait()
                answers[piece.start] = request.get_output_tensor().data[: piece.images].copy()
        return np.concatenate([answers[start] for start in sorted(answers)])

    def _plan(self, size: int) -> list[list[_Piece]]:
        """Of each stream what it runs, one after the other."""
        plan = []
        for part in np.array_split(np.arange(size), min(size, len(self._requests))):
            pieces, start = [], int(part[0])
            for images, bucket in fitted(len(part), self._buckets):
                pieces.append(_Piece(start, images, bucket))
                start += images
            plan.append(pieces)
        return plan

    def warm_up(self) -> None:
        """Runs the smallest and the largest batch."""
        for size in {1, self.spec.max_batch_size}:
            self.infer(np.zeros((size, *self._staging.shape[1:]), np.uint8))

    def close(self) -> None:
        """Frees the compiled model."""
        with kept_signal_stack():
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
    streams = min(streams, threads or usable_cores())
    spec = dataclasses.replace(spec, threads=threads, streams=streams, max_batch_size=options.max_batch_size)
    try:
        graphs = [_compile(bundle, spec, options.prepared_sizes) for _ in range(streams)]
        engine = OpenVinoEngine(graphs, spec, bundle.spec.preprocess.crop_size, bundle.spec.num_classes)
        shape = engine.infer(np.zeros((1, *engine._staging.shape[1:]), np.uint8)).shape
    except RuntimeError:
        raise EngineError(f"{bundle.file}: OpenVINO cannot load or run it") from None
    if shape != (1, bundle.spec.num_classes):
        raise EngineError(
            f"{bundle.file}: the graph's output has shape {list(shape)}, expected [1, {bundle.spec.num_classes}]"
        )
    return engine


def _requests(graphs: Mapping[int, Any]) -> dict[int, Any]:
    shared = {id(graph): graph.create_infer_request() for graph in graphs.values()}
    return {size: shared[id(graph)] for size, graph in graphs.items()}


def _compile(bundle: ModelBundle, spec: EngineSpec, sizes: Iterable[int]) -> dict[int, Any]:
    """The graphs of one stream: one for all sizes, in int8 one for each of some.

    In int8 OpenVINO is not to be trusted with a size that it learns at run time: on processors with AMX it
    crashes (https://github.com/openvinotoolkit/openvino/issues/37577). It is also 3 % slower. Nor with several
    streams in one graph: they gave answers that differed from one start to the next (docs/engines.md).
    """
    core, side = openvino.Core(), bundle.spec.preprocess.crop_size
    model, settings = core.read_model(bundle.file), settings_of(spec.precision, _threads(spec))
    if spec.precision != "int8":
        with kept_signal_stack():
            graph = core.compile_model(model, "CPU", settings)
        return dict.fromkeys(range(1, spec.max_batch_size + 1), graph)
    graphs = {}
    for size in {-(-size // spec.streams) for size in sizes}:
        model.reshape([size, side, side, 3])
        with kept_signal_stack():
            graphs[size] = core.compile_model(model, "CPU", settings)
    return graphs


def _threads(spec: EngineSpec) -> int:
    """Of each stream; 0: one per core."""
    return spec.threads if spec.streams == 1 else (spec.threads or usable_cores()) // spec.streams


def settings_of(precision: str, threads: int) -> dict[str, Any]:
    """How OpenVINO compiles a graph; threads: 0 for one per core."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": _ARITHMETIC[precision],
        # Threads that are pinned to a core wait there for the decode threads which share it.
        "ENABLE_CPU_PINNING": False,
    }
