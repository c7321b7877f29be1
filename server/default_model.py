"""The model that is served when none is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import models
from models.bundles.bundle import MANIFEST, ModelBundle
from models.optimize.choice import AUTOMATIC
from server.config import ModelConfig

_FOLDER = Path(models.__file__).parent
STORE = _FOLDER / "store"
DEMO = _FOLDER / "demo"


def default_model() -> Path:
    """The ImageNet model that was optimised here, ResNet18 before EfficientNet-Lite0, else the digits demo."""
    optimised = (STORE / name for name in AUTOMATIC)
    return next((folder for folder in optimised if (folder / MANIFEST).exists()), DEMO)


def reason(config: ModelConfig, bundles: Mapping[str, ModelBundle]) -> str:
    """Why the default model is the one that is served, in one line; "" where a model was named."""
    if config.model:
        return ""
    ((name, bundle),) = bundles.items()
    served = f"{name} is the default, as no --model was named"
    if bundle.file.parent == DEMO:
        return f"{served}; make serve optimises an ImageNet model"
    missing = [str(each).partition(":")[0] for each in bundle.spec.source.get("instead_of", ())]
    return f"{served}; the weights of {' and '.join(missing)} could not be downloaded" if missing else served
