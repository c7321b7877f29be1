"""A bare TorchScript file in the serving graph: normalisation before it, activation after it where it has none."""

from __future__ import annotations

import dataclasses

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec
from models.engines.bare_outputs import Pair
from models.engines.bare_way import Opened, examine
from models.engines.base import EngineOptions
from models.engines.load_checks import move_constants
from models.engines.torch_engine import TorchEngine
from models.engines.torchscript import load_module, resolve


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
    graph = found.way.compiled(found.activation)
    classes = bundle.spec.num_classes or found.columns
    if found.columns != classes:
        graph = Pair(graph)
    resolved = dataclasses.replace(
        spec, precision=found.way.precision, activation=found.activation, output=found.way.output
    )
    engine = TorchEngine(graph, resolved, bundle.spec.preprocess.crop_size, classes)
    engine.notices = found.notices
    return engine
