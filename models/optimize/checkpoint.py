"""Files of weights, read without running anything that is in them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from models.architectures import StateDict
from models.optimize.errors import UsageError

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's


def read_state(file: Path) -> StateDict:
    """Reads a state dict: .safetensors, or torch.save's format with `weights_only`.

    Wrappers such as {"state_dict": …} and prefixes such as "module." are removed.

    Raises:
        UsageError: missing, damaged, or not a state dict; one line that names the file.
    """
    document = _load(file)
    for wrapper in _WRAPPERS:
        if isinstance(document, dict) and isinstance(document.get(wrapper), dict):
            document = document[wrapper]
            break
    if not isinstance(document, dict) or not all(isinstance(v, torch.Tensor) for v in document.values()):
        raise UsageError(f"{file}: holds no state dict (names with tensors)")
    return {_plain(str(name)): tensor for name, tensor in document.items()}


def _load(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            return torch.load(file, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"{file}: no such file") from None
    # The restricted unpickler meets damage with KeyError, IndexError, struct.error … as it comes.
    except Exception:
        raise UsageError(f"{file}: not a file of weights only, or damaged") from None


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
