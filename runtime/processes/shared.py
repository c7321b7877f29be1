"""Batches and rows in memory that two processes share; a message then says only what lies there.

An item is an array, bytes, a JSON value, or a tree of these: lists, tuples and dicts. A bytearray or a view of
bytes arrives as a bytearray.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.processes.trees import flatten, restore

# [count, dtype, shape]: so many items of one kind, one after another; one of `_TEXTS` instead of a dtype. What
# follows a tree are its arrays and bytes.
Group = list[Any]

BYTES, BUFFER, JSON, TREE = _TEXTS = ("bytes", "buffer", "json", "tree")
_ALIGNMENT = 64  # of each group: a cache line
_ARRAYS = (np.ndarray, np.generic)
_LEAST_BYTES = 1 << 16


class BrokenBatch(Exception):
    """A message whose positions in shared memory are impossible."""


class Area:
    """Anonymous memory that is written by one process and read by the other. It has no name and leaves nothing.

    Attributes:
        descriptor: to be given to the other process.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """Creates it, or takes over the descriptor that the other process gave."""
        self.descriptor = _anonymous() if descriptor is None else descriptor
        self._memory = memoryview(b"")

    def write(self, items: Iterable[Any]) -> list[Group]:
        """Copies items. Returns what lies there now.

        Raises:
            TypeError: an item is of no kind that can be shared.
        """
        encoded = [_encoded(item) for item in items]
        if TREE in [name for name, _, _ in encoded]:
            encoded = list(_with_leaves(encoded))
        groups, members = [], []
        for (dtype, shape), same in groupby(encoded, key=lambda each: each[:2]):
            members.append([data for _, _, data in same])
            groups.append([len(members[-1]), dtype, list(shape)])
        self._reserve(_size(groups))
        offset = 0
        for group, datas in zip(groups, members, strict=True):
            view = _view(self._memory, group, offset)
            for place, data in enumerate(datas):
                view[place] = data
            offset = _aligned(offset + view.nbytes)
        return groups

    def read(self, groups: Sequence[Group], copy: bool = True) -> list[Any]:
        """What the other process has written. Without `copy`, arrays are valid until it writes again.

        Raises:
            BrokenBatch: the memory holds no such items.
        """
        try:
            return self._read(groups, copy)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, RecursionError):
            raise BrokenBatch("a batch that does not lie in the shared memory") from None

    def _read(self, groups: Sequence[Group], copy: bool) -> list[Any]:
        self._map(_size(groups))
        offset, items, has_trees = 0, list[Any](), False
        for group in groups:
            view = _view(self._memory, group, offset)
            offset = _aligned(offset + view.nbytes)
            items += _decoded(group[1], view.copy() if copy and group[1] not in _TEXTS else view)
            has_trees = has_trees or group[1] == TREE
        return list(_assembled(items)) if has_trees else items

    def _reserve(self, size: int) -> None:
        if size > os.fstat(self.descriptor).st_size:
            os.ftruncate(self.descriptor, max(_LEAST_BYTES, 1 << (size - 1).bit_length()))
        self._map(size)

    def _map(self, size: int) -> None:
        """Maps what the memory has grown by; views of the old mapping keep it until they are gone."""
        if size <= len(self._memory):
            return
        actual = os.fstat(self.descriptor).st_size
        if size > actual:
            raise ValueError("beyond the end")
        self._memory = memoryview(mmap.mmap(self.descriptor, actual))

    def close(self) -> None:
        """Gives the descriptor back, once; the memory is freed with its last view."""
        self._memory = memoryview(b"")
        descriptor, self.descriptor = self.descriptor, -1
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _anonymous() -> int:
    """A descriptor of memory that can grow and never shrinks: a shrunk one would kill its readers."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("snapserve", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return descriptor
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


_Encoded = tuple[str, tuple[int, ...], Any]


class _Tree(NamedTuple):
    """What lies there of a tree without its arrays and bytes, and these."""

    form: Any
    leaves: Sequence[Any] = ()


def _encoded(item: Any) -> _Encoded:
    if isinstance(item, _ARRAYS):
        if item.dtype.hasobject:
            raise TypeError("arrays of objects cannot be shared")
        return item.dtype.str, item.shape, item
    if isinstance(item, bytes):
        return _text(BYTES, item)
    if isinstance(item, bytearray | memoryview):
        return _text(BUFFER, item)
    if not isinstance(item, list | tuple | dict):
        return _text(JSON, json.dumps(item).encode())
    leaves: list[Any] = []
    return TREE, (), _Tree(flatten(item, leaves), leaves)


def _with_leaves(encoded: Iterable[_Encoded]) -> Iterator[_Encoded]:
    """Puts behind each tree what belongs to it."""
    for each in encoded:
        if each[0] != TREE:
            yield each
            continue
        yield _text(TREE, json.dumps(each[2].form).encode())
        yield from map(_encoded, each[2].leaves)


def _text(name: str, data: bytes | bytearray | memoryview) -> _Encoded:
    return name, (len(data),), np.frombuffer(data, np.uint8)


def _assembled(items: Iterable[Any]) -> Iterator[Any]:
    """Items, of which each tree has taken its leaves from behind it."""
    rest = iter(items)
    for item in rest:
        yield restore(item.form, rest) if isinstance(item, _Tree) else item


def _decoded(name: str, view: NDArray[Any]) -> list[Any]:
    if name == BYTES:
        return [each.tobytes() for each in view]
    if name == BUFFER:
        return [bytearray(each) for each in view]
    if name == JSON:
        return [json.loads(each.tobytes()) for each in view]
    if name == TREE:
        return [_Tree(json.loads(each.tobytes())) for each in view]
    if view.dtype.kind == "b":
        view = view.view(np.uint8) != 0  # any other byte than 0 and 1 would be undefined behaviour
    return list(view)


def _dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(np.uint8 if name in _TEXTS else name)
    if dtype.hasobject:
        raise TypeError("objects")
    return dtype


def _size(groups: Sequence[Group]) -> int:
    size = 0
    for count, name, shape in groups:
        if count < 0 or any(length < 0 for length in shape):
            raise ValueError("negative")
        size = _aligned(size) + count * math.prod(shape) * _dtype(name).itemsize
    return size


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _view(memory: memoryview, group: Group, offset: int) -> NDArray[Any]:
    count, name, shape = group
    if not count * math.prod(shape):
        return np.empty((count, *shape), _dtype(name))
    return np.ndarray((count, *shape), _dtype(name), memory, offset)
