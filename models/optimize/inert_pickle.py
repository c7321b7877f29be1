"""torch.save's files read without running anything: what is no tensor or plain value becomes an inert stand-in.

For checkpoints that hold more than weights: `argparse.Namespace`, numpy scalars, paths, dates, hyperparameters.
torch's own `weights_only` refuses such files, or wants every class named. Only zip archives are read so, the
format since torch 1.6: in the older one a pickle can make torch look for source files.
"""

from __future__ import annotations

import collections
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch

from models.torch_private import REBUILD, archive_records


class _Rebuild:
    """A function that a pickle may call, and whose attributes it cannot set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"{name} cannot be set")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function has no state")


# What tensors are made of. They compute nothing but shapes; storages are read by torch.load itself.
_TENSORS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{("torch._utils", name): _Rebuild(function) for name, function in REBUILD.items()},
}


class Inert(dict[Any, Any]):
    """Stands for an object of a class that was not looked up. Takes what a pickle gives it, and does nothing.

    Attributes:
        state: what the pickle would have made its attributes of.
    """

    state: Any = None
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__()

    def __call__(self, *arguments: Any, **named: Any) -> Inert:
        """What a method of the original would have returned."""
        return Inert()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """A list's way to take an item."""

    def extend(self, items: Any) -> None:
        """A list's way to take several."""

    def add(self, item: Any) -> None:
        """A set's."""

    @classmethod
    def original(cls) -> str:
        """The class that it stands for."""
        return f"{cls.__module__}.{cls.__qualname__}"


@cache
def _stand_in(module: str, name: str) -> type[Inert]:
    return type(name.rpartition(".")[2], (Inert,), {"__module__": module, "__qualname__": name})


class Unpickler(pickle.Unpickler):
    """Looks up no class but those that tensors are made of."""

    def find_class(self, module: str, name: str) -> Any:
        """The inert stand-in of a class; raises UnpicklingError for all others."""
        known = _TENSORS.get((module, name))
        if known is not None:
            return known
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return _stand_in(module, name)


def _load(stream: BinaryIO, **options: Any) -> Any:
    return Unpickler(stream, **options).load()


# For torch.load's `pickle_module`.
_MODULE = SimpleNamespace(
    __name__=__name__, Unpickler=Unpickler, load=_load, UnpicklingError=pickle.UnpicklingError
)


def is_archive(file: Path) -> bool:
    """Whether torch takes the file for a zip archive."""
    with file.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def is_program(file: Path) -> bool:
    """Whether an archive holds TorchScript, which torch.load would run.

    torch's own reader is asked: Python's finds another directory where a file has two.

    Raises:
        RuntimeError: the archive is damaged.
    """
    return "constants.pkl" in archive_records(file)


def read(file: Path) -> Any:
    """The document in an archive that is no program. Raises anything for a damaged one."""
    return torch.load(file, map_location="cpu", weights_only=False, pickle_module=_MODULE)
