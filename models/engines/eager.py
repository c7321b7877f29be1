"""torchvision's network as it is, eager: fp32 on a CPU, FP16 channels-last on CUDA.

What the other engines are measured against.
"""

from __future__ import annotations

import dataclasses

import torch

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec
from models.engines.base import EngineOptions
from models.engines.torch_engine import TorchEngine
from models.engines.torchscript import load_network, resolve
from models.networks.graph import ServingGraph, build_graph


def load(bundle: ModelBundle, options: EngineOptions) -> TorchEngine:
    """Builds the architecture and loads its weights.

    Raises:
        EngineError: the file holds no weights, or they do not fit, or the device is not here.
    """
    spec = resolve(bundle, options)
    if spec.device == "cpu":
        spec = dataclasses.replace(spec, precision="fp32", memory_format="contiguous")
        graph = ServingGraph(
            load_network(bundle), bundle.spec.preprocess, activation=bundle.spec.activation, channels_last=False
        ).eval()
    else:
        spec = dataclasses.replace(spec, precision="fp16", memory_format="channels_last")
        graph = serving_graph(bundle, spec)
    return TorchEngine(graph, spec, bundle.spec.preprocess.crop_size, bundle.spec.num_classes)


def serving_graph(bundle: ModelBundle, spec: EngineSpec) -> ServingGraph:
    """The bundle's network in the graph that is served, as `spec` says, not compiled.

    Raises:
        EngineError: the weights do not fit.
    """
    return build_graph(
        load_network(bundle),
        bundle.spec.preprocess,
        spec.precision,
        torch.device(spec.device),
        spec.memory_format == "channels_last",
        bundle.spec.activation,
    )
