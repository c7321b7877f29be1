"""Files of torch.package as engines. A package is a program: to load it runs code that it brings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.package.package_importer import PackageImporter

from models.errors import EngineError


class PackageEngine:
    """An object that was pickled into a package, called once per item. For a process of its own."""

    def __init__(self, path: str, module: str, file: str, device: str = "cpu", threads: int = 0) -> None:
        """Opens the package and unpickles the object, which runs code of the package.

        Args:
            path: of the package.
            module: that the pickle was saved under, "model".
            file: name of the pickle there, "model.pkl".
            device: of tensors; the object is moved there if it has `to`.
            threads: of torch, for one operation; 0: as many as torch takes.

        Raises:
            EngineError: it cannot be loaded; one line.
        """
        if threads:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._pid = os.getpid()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # torch's loader itself uses it
                self._model = PackageImporter(path).load_pickle(module, file)
            if self._device.type != "cpu" and hasattr(self._model, "to"):
                self._model = self._model.to(self._device)
        except Exception as error:
            line = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            raise EngineError(f"{path}: {module} {file} cannot be loaded: {line}") from error

    def infer(self, batch: Sequence[Any]) -> list[Any]:
        """Calls the object with each item.

        Args:
            batch: items; a tuple or list holds positional arguments, anything else is one argument.

        Returns:
            One row per item: what the object returned, its tensors as arrays.

        Raises:
            Exception: whatever the object raises.
        """
        with torch.no_grad():
            return [self._call(item if isinstance(item, tuple | list) else (item,)) for item in batch]

    def _call(self, arguments: Sequence[Any]) -> Any:
        output = self._model(*(tensors_of(each, self._device) for each in arguments))
        if os.getpid() != self._pid:  # the call has forked: this is the other process
            os._exit(0)
        return arrays_of(output)


def tensors_of(value: Any, device: torch.device) -> Any:
    """A value with its arrays as tensors, which own their memory; numpy's scalars as Python's."""
    if isinstance(value, np.ndarray):
        return torch.tensor(value, device=device)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: tensors_of(each, device) for key, each in value.items()}
    if isinstance(value, list | tuple):
        items = [tensors_of(each, device) for each in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def arrays_of(value: Any) -> Any:
    """A value with its tensors as arrays; bfloat16, which numpy lacks, as float32. Named tuples become tuples."""
    if isinstance(value, torch.Tensor):
        plain: torch.Tensor = value.detach().cpu().resolve_conj().resolve_neg()
        return (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()
    if isinstance(value, dict):
        return {key: arrays_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        items = [arrays_of(each) for each in value]
        return items if isinstance(value, list) else tuple(items)
    return value
