"""Objects that move from one interpreter to another: pickled, their storages shared. In interpreters only."""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.package.package_importer import PackageImporter

from runtime.interpreters.storages import Inbox, Outbox
from runtime.interpreters.values import Tree

Importers = Mapping[int, PackageImporter]


def pickled(value: Any, outbox: Outbox, importers: Importers) -> tuple[int, list[int]]:
    """Pickles an object into an outbox.

    Returns:
        The number of the storage that holds the pickle, and the numbers of the packages whose code it needs.

    Raises:
        Exception: whatever the object raises when it is pickled.
    """
    stream = io.BytesIO()
    pickler = _Pickler(stream, outbox, importers)
    pickler.dump(value)
    return outbox.copy(stream.getvalue()), sorted(pickler.packages)


def unpickled(pickle_number: int, inbox: Inbox, importer_of: Callable[[int], PackageImporter]) -> Any:
    """The object of a pickle in an inbox. Raises whatever the object raises."""
    return _Unpickler(io.BytesIO(inbox.copy(pickle_number)), inbox, importer_of).load()


class _Pickler(pickle.Pickler):
    """Writes storages, and what code of a package defines, as persistent ids.

    Attributes:
        packages: numbers of the packages whose code was named.
    """

    def __init__(self, stream: io.BytesIO, outbox: Outbox, importers: Importers) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.packages: set[int] = set()
        self._outbox = outbox
        self._numbers = {importer.id(): number for number, importer in importers.items()}

    def persistent_id(self, obj: Any) -> Tree | None:
        """How an object is written that is not pickled; None for all others."""
        if isinstance(obj, torch.UntypedStorage):
            return ["storage", self._outbox.storage(obj), None, str(obj.device)]
        if isinstance(obj, torch.storage.TypedStorage):
            storage: torch.UntypedStorage = obj.untyped()
            return ["storage", self._outbox.storage(storage), obj.dtype, str(storage.device)]
        if isinstance(obj, type | types.FunctionType):
            identity, _, module = str(obj.__module__).partition(".")
            if (number := self._numbers.get(identity)) is not None:
                self.packages.add(number)
                return ["package", number, module, obj.__qualname__]
        return None


class _Unpickler(pickle.Unpickler):
    """Reads what `_Pickler` writes."""

    def __init__(self, stream: io.BytesIO, inbox: Inbox, importer_of: Callable[[int], PackageImporter]) -> None:
        super().__init__(stream)
        self._inbox = inbox
        self._importer_of = importer_of

    def persistent_load(self, pid: Any) -> Any:
        """What a persistent id stands for."""
        kind, number, *rest = pid
        if kind == "package":
            module, name = rest
            found: Any = self._importer_of(number).import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            return found
        dtype, device = rest
        storage: Any = self._inbox.storage(number)
        if device != "cpu":
            storage = storage.to(device=torch.device(device))
        if dtype is None:
            return storage
        return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)
