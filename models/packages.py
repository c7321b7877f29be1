"""Objects in files of torch.package. A package is a program: to load it runs code that it brings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

from models.errors import EngineError


class PackagedObject:
    """An object that was pickled into a package, to be called. For a process of its own."""

    def __init__(self, path: str, module: str, file: str, device: str = "cpu") -> None:
        """Opens the package and unpickles the object, which runs code of the package.

        Args:
            path: of the package.
            module: that the pickle was saved under, "model".
            file: name of the pickle there, "model.pkl".
            device: the object is moved there if it has `to`.

        Raises:
            EngineError: it cannot be loaded, or called; one line.
        """
        self._pid = os.getpid()
        self._object = self._alone(lambda: _unpickled(path, module, file, device))

    def __call__(self, *arguments: Any) -> Any:
        """Calls the object. Raises whatever it raises."""
        return self._alone(lambda: self._object(*arguments))

    def _alone(self, call: Callable[[], Any]) -> Any:
        """Ends the other process where a call has forked: that one has no parent to answer."""
        try:
            return call()
        finally:
            if os.getpid() != self._pid:
                os._exit(0)


def _unpickled(path: str, module: str, file: str, device: str) -> Callable[..., Any]:
    from torch.package.package_importer import PackageImporter

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # torch's loader itself uses it
            found = PackageImporter(path).load_pickle(module, file)
        if device != "cpu" and hasattr(found, "to"):
            found = found.to(device)
        if not callable(found):
            raise TypeError(f"an object of type {type(found).__name__} cannot be called")
    except Exception as error:
        line = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        raise EngineError(f"{path}: {module} {file} cannot be loaded: {line}") from error
    called: Callable[..., Any] = found
    return called
