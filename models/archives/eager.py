"""A network whose class an archive brings. For a process of its own: to load it runs code of the archive."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from models.errors import EngineError


def make_importable(folder: Path, packages: Path | None) -> None:
    """Lets this process import an archive's modules and its packages, and works in the archive's folder."""
    sys.path[:0] = [str(folder), *([str(packages)] if packages else [])]
    os.chdir(folder)


def load_network(folder: Path, model_file: str, weights: str, device: str) -> nn.Module:
    """Makes the network of an archive, with its weights.

    Args:
        folder: of the archive, importable.
        model_file: that has exactly one class, which is made without arguments.
        weights: file with its state dict; "": it keeps those that it was made with.
        device: that it is moved to.

    Raises:
        EngineError: it does not import, has no or several classes, or the weights do not fit; one line.
    """
    try:
        network = _class_in(_imported(folder / model_file))()
        if weights:
            network.load_state_dict(torch.load(folder / weights, map_location=device, weights_only=False))
        moved: nn.Module = network.to(device).eval()
    except EngineError as error:
        raise EngineError(f"{model_file}: {error}") from None
    except Exception as error:  # the archive's own
        line = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        raise EngineError(f"{model_file} and {weights} give no network: {line}") from error
    return moved


def _imported(file: Path) -> ModuleType:
    """The module in a file; not one of ours that has its name."""
    name = file.stem if file.stem not in sys.modules else f"archive_{file.stem}"
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise EngineError("is no Python file")
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _class_in(module: ModuleType) -> Callable[[], Any]:
    found = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == module.__name__]
    if len(found) != 1:
        names = ", ".join(each.__name__ for each in found)
        raise EngineError(f"must have exactly one class, the network's; it has {names or 'none'}")
    return found[0]
