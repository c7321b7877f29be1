"""AOTInductor: a `.pt2` package of native code. For measurements and `python -m models run`, not for serving.

Its Python bindings hold the interpreter lock during load and every run
(https://github.com/pytorch/pytorch/issues/197516): in a thread of the service they would freeze the event loop.
"""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import ModelBundle
from models.engines.base import EngineOptions
from models.engines.torch_engine import Graph, TorchEngine
from models.engines.torchscript import resolve
from models.errors import EngineError
from models.torch_private import load_aoti_package


def load(bundle: ModelBundle, options: EngineOptions) -> TorchEngine:
    """Loads the package.

    Raises:
        EngineError: not a package, or for another device.
    """
    spec = resolve(bundle, options)
    package = load_package(bundle.file)
    return TorchEngine(package, spec, bundle.spec.preprocess.crop_size, bundle.spec.num_classes)


def load_package(file: Path) -> Graph:
    """The program of a package. Raises EngineError where torch cannot load it."""
    try:
        package: Graph = load_aoti_package(file)
    # The package is native code from elsewhere: any exception may come out of it.
    except Exception:
        raise EngineError(f"{file}: not an AOTInductor package for this machine") from None
    return package
