"""torchvision's network as it is, eager fp32 on a CPU: what the other engines are measured against."""

from __future__ import annotations

import dataclasses

from models.bundle import ModelBundle
from models.engines.base import EngineOptions
from models.engines.torch_engine import TorchEngine
from models.engines.torchscript import load_network, resolve
from models.errors import EngineError
from models.graph import ServingGraph


def load(bundle: ModelBundle, options: EngineOptions) -> TorchEngine:
    """Builds the architecture and loads its weights.

    Raises:
        EngineError: the file holds no weights, or they do not fit, or the device is not a CPU.
    """
    spec = dataclasses.replace(resolve(bundle, options), precision="fp32", memory_format="contiguous")
    if spec.device != "cpu":
        raise EngineError(f"{bundle.file}: eager fp32 runs on a CPU only")
    graph = ServingGraph(load_network(bundle), bundle.spec.preprocess, channels_last=False).eval()
    return TorchEngine(graph, spec, bundle.spec.preprocess.crop_size, bundle.spec.num_classes)
