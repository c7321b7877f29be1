"""CUDA graphs: TorchScript in FP16, channels-last, recorded once per batch size and replayed with one call."""

from __future__ import annotations

import torch

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec
from models.engines.base import EngineOptions
from models.engines.cuda_device import CudaDevice
from models.engines.eager import serving_graph
from models.engines.graph_engine import LARGEST_PIECE, GraphEngine
from models.engines.torch_engine import Graph
from models.engines.torchscript import load_module, resolve
from models.errors import EngineError
from models.networks.graph import compile_graph


def load(bundle: ModelBundle, options: EngineOptions, largest_piece: int = LARGEST_PIECE) -> GraphEngine:
    """Loads a TorchScript graph, or traces weights, and records it for every bucket.

    Args:
        bundle: TorchScript for CUDA, or weights.
        options: device, largest batch.
        largest_piece: images in one run.

    Raises:
        EngineError: the file does not load, or cannot be recorded, or there is no CUDA device.
    """
    spec = resolve_cuda(bundle, options)
    if spec.holds_weights:
        side = bundle.spec.preprocess.crop_size
        example = torch.zeros(2, side, side, 3, dtype=torch.uint8, device=spec.device)
        module = compile_graph(serving_graph(bundle, spec), example)
    else:
        module = load_module(bundle.file, spec.device)
    return record(module, bundle, spec, largest_piece)


def resolve_cuda(bundle: ModelBundle, options: EngineOptions) -> EngineSpec:
    """As `resolve`; also raises EngineError where that is not a CUDA device."""
    spec = resolve(bundle, options)
    if spec.device != "cuda":
        raise EngineError(f"{bundle.file}: engine {spec.kind!r} needs device 'cuda'")
    return spec


def record(
    module: Graph,
    bundle: ModelBundle,
    spec: EngineSpec,
    largest_piece: int = LARGEST_PIECE,
    bucket_factor: int = 2,
) -> GraphEngine:
    """Checks the module's output and records it. Raises EngineError, in one line, whatever went wrong."""
    torch.backends.cudnn.benchmark = True
    side, num_classes = bundle.spec.preprocess.crop_size, bundle.spec.num_classes
    try:
        with torch.no_grad():
            shape = module(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=spec.device)).shape
        if shape == (1, num_classes):
            return GraphEngine(CudaDevice(), module, spec, side, num_classes, largest_piece, bucket_factor)
    # The module is a user's program, perhaps not compiled before: it may raise any exception.
    except Exception as error:
        raise EngineError(f"{bundle.file}: cannot be recorded as CUDA graphs ({_in_one_line(error)})") from error
    raise EngineError(f"{bundle.file}: the graph's output has shape {list(shape)}, expected [1, {num_classes}]")


def _in_one_line(error: BaseException) -> str:
    """With what went wrong before it: a capture that was broken off fails once more where it ends."""
    first = (str(error).strip().splitlines() or [""])[0]
    described = f"{type(error).__name__}: {first[:200]}"
    return described if error.__context__ is None else f"{described}; before it {_in_one_line(error.__context__)}"
