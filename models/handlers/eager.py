"""Networks whose class is in the archive, and whose weights are beside it."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch

from models.errors import EngineError
from models.handlers.class_list import list_classes_from_module


def load_eager(model_file: Path, weights: Path | None, device: Any) -> torch.nn.Module:
    """Makes the one class of a file, without arguments, and gives it its weights.

    Args:
        model_file: Python source.
        weights: a state dict; None: none are loaded.
        device: where they go.

    Raises:
        EngineError: the file does not define exactly one network.
    """
    found = _networks(model_file)
    if len(found) != 1:
        raise EngineError(f"{model_file.name} must define exactly one class, and has {len(found)}")
    network: torch.nn.Module = found[0]()
    if weights is not None:
        state = torch.load(weights, map_location=device, weights_only=False)  # the archive is a program anyway
        network.load_state_dict(state)
    return network.to(device).eval()


def _networks(model_file: Path) -> list[type]:
    """The classes that a file defines; it is imported once, also where the handler imports it."""
    name = model_file.stem
    module = sys.modules.get(name)
    if module is None or getattr(module, "__file__", None) != str(model_file):
        spec = spec_from_file_location(name, model_file)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        sys.modules.setdefault(name, module)
        spec.loader.exec_module(module)
    return list_classes_from_module(module)
