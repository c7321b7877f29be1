"""Engines by name. Factories import inside, so a missing optional package never breaks the start."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from models.errors import EngineError

if TYPE_CHECKING:
    from models.bundles.bundle import ModelBundle
    from models.engines.base import Engine, EngineOptions

__all__ = ["ENGINES", "UNSERVABLE", "load_engine"]

# kind in the bundle -> module that has load(bundle, options)
ENGINES = {
    "torchscript": "models.engines.torchscript",
    "bare-torchscript": "models.engines.bare_torchscript",
    "program": "models.engines.program",
    "openvino": "models.engines.openvino",
    "aotinductor": "models.engines.aotinductor",
    "eager": "models.engines.eager",
    "cuda-graphs": "models.engines.cuda_graphs",
    "torch-compile": "models.engines.torch_compile",
}

# Kinds that hold the interpreter lock while they run, and would freeze an event loop beside them:
# https://github.com/pytorch/pytorch/issues/197516
UNSERVABLE = ("aotinductor",)


def load_engine(bundle: ModelBundle, options: EngineOptions) -> Engine:
    """Loads the engine that the bundle names. Call it on the thread that will run the engine.

    Raises:
        EngineError: the kind is unknown, its package is missing, or its file does not load here.
    """
    kind = bundle.spec.engine.kind
    if kind not in ENGINES:
        raise EngineError(f"{bundle.file}: engine kind {kind!r} must be one of {', '.join(ENGINES)}")
    try:
        module = import_module(ENGINES[kind])
    except ImportError as error:
        raise EngineError(f"{bundle.file}: engine {kind!r} needs the package {error.name}") from None
    engine: Engine = module.load(bundle, options)
    return engine
