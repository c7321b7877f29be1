"""Values that may cross between interpreters, as JSON and storages. No pickles: no code of a message runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from runtime.interpreters.errors import InterpreterError
from runtime.interpreters.storages import Inbox, Outbox

# None, bool, int, float and str are themselves; of any other value it is a list: its kind, then what that needs.
Tree = Any
# Kinds of objects that stay in their interpreter; a number comes with each.
REFERENCES = ("object", "replica", "importer")


class Packer:
    """Values -> trees, with their storages in an outbox."""

    def __init__(self, outbox: Outbox, reference: Callable[[Any], Tree | None] = lambda value: None) -> None:
        """Creates it.

        Args:
            outbox: takes the storages.
            reference: the tree of a value that stands for an object in the interpreter, else None.
        """
        self._outbox = outbox
        self._reference = reference

    def pack(self, value: Any) -> Tree:
        """The tree of a value. Raises InterpreterError for one that cannot cross, naming its class."""
        if value is None or isinstance(value, bool | int | str) or type(value) is float:
            return value
        for kind, pack in _PACK:
            if isinstance(value, kind):
                return pack(self, value)
        if (reference := self._reference(value)) is not None:
            return reference
        kind = type(value)
        raise InterpreterError(f"a value of class {kind.__module__}.{kind.__qualname__} cannot cross")

    def _sequence(self, value: Any) -> Tree:
        return ["list" if isinstance(value, list) else "tuple", *map(self.pack, value)]

    def _set(self, value: Any) -> Tree:
        return ["frozenset" if isinstance(value, frozenset) else "set", *map(self.pack, value)]

    def _dict(self, value: Mapping[Any, Any]) -> Tree:
        return ["dict", *([self.pack(key), self.pack(each)] for key, each in value.items())]

    def _tensor(self, value: torch.Tensor) -> Tree:
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_nested:
            raise InterpreterError(
                f"a tensor of layout {value.layout}, {value.dtype}, {value.device} cannot cross"
            )
        plain = value.detach().resolve_conj().resolve_neg()
        number = self._outbox.storage(plain.untyped_storage())
        place = [plain.storage_offset(), list(plain.shape), list(plain.stride())]
        return ["tensor", number, _name(plain.dtype), *place, str(plain.device)]

    def _array(self, value: Any) -> Tree:
        if value.dtype.hasobject or value.dtype.names:
            raise InterpreterError(f"an array of {value.dtype} cannot cross")
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return [kind, self._outbox.copy(value.tobytes()), value.dtype.str, list(value.shape)]

    def _bytes(self, value: Any) -> Tree:
        return ["bytearray" if isinstance(value, bytearray) else "bytes", self._outbox.copy(bytes(value))]


class Unpacker:
    """Trees -> values, with their storages from an inbox."""

    def __init__(self, inbox: Inbox, resolve: Callable[[str, int], Any] | None = None) -> None:
        """Creates it.

        Args:
            inbox: holds the storages.
            resolve: the object that a kind of reference and a number stand for.
        """
        self._inbox = inbox
        self._resolve = resolve

    def unpack(self, tree: Tree) -> Any:
        """The value of a tree. Raises InterpreterError for a tree that no packer makes."""
        if not isinstance(tree, list):
            return tree
        try:
            if tree[0] in REFERENCES and self._resolve is not None:
                return self._resolve(tree[0], tree[1])
            return _UNPACK[tree[0]](self, *tree[1:])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            if isinstance(error, InterpreterError):
                raise
            raise InterpreterError(f"what came is no value: {type(error).__name__}: {error}") from None

    def _list(self, *items: Tree) -> list[Any]:
        return [self.unpack(each) for each in items]

    def _dict(self, *pairs: Tree) -> dict[Any, Any]:
        return {self.unpack(key): self.unpack(value) for key, value in pairs}

    def _tensor(
        self, number: int, dtype: str, offset: int, shape: list[int], stride: list[int], device: str
    ) -> torch.Tensor:
        storage = self._inbox.storage(number)
        return torch.empty(0, dtype=_dtype(dtype)).set_(storage, offset, shape, stride).to(device)

    def _array(self, number: int, dtype: str, shape: list[int]) -> Any:
        return np.frombuffer(self._inbox.copy(number), np.dtype(dtype)).reshape(shape).copy()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"{name} is no dtype")
    return found


# In this order: numpy's float64 is a float, and torch's size a tuple.
_PACK: tuple[tuple[Any, Callable[[Packer, Any], Tree]], ...] = (
    (torch.Tensor, Packer._tensor),
    (np.ndarray | np.generic, Packer._array),
    (float, lambda _, value: float(value)),
    (torch.Size, lambda _, value: ["size", *value]),
    (list | tuple, Packer._sequence),
    (dict, Packer._dict),
    (set | frozenset, Packer._set),
    (bytes | bytearray, Packer._bytes),
    (complex, lambda _, value: ["complex", value.real, value.imag]),
    (torch.dtype, lambda _, value: ["dtype", _name(value)]),
    (torch.device, lambda _, value: ["device", str(value)]),
)
_UNPACK: dict[str, Callable[..., Any]] = {
    "tensor": Unpacker._tensor,
    "array": Unpacker._array,
    "scalar": lambda self, *place: self._array(*place)[()],
    "size": lambda _, *sizes: torch.Size(sizes),
    "list": Unpacker._list,
    "tuple": lambda self, *items: tuple(self._list(*items)),
    "dict": Unpacker._dict,
    "set": lambda self, *items: set(self._list(*items)),
    "frozenset": lambda self, *items: frozenset(self._list(*items)),
    "bytes": lambda self, number: self._inbox.copy(number),
    "bytearray": lambda self, number: bytearray(self._inbox.copy(number)),
    "complex": lambda _, real, imaginary: complex(real, imaginary),
    "dtype": lambda _, name: _dtype(name),
    "device": lambda _, name: torch.device(name),
}
