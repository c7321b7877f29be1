"""Storages of tensors in memory that several processes map; a message says which, its descriptors say where."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch

from models.torch_private import shared_descriptor
from runtime.interpreters.errors import InterpreterError
from runtime.processes.shared import Area

_ALIGNMENT = 64  # of each storage: what vector instructions want


class Extent(NamedTuple):
    """Where a storage lies: in the file of the message's descriptor number `file`, in bytes; -1: it is empty."""

    file: int
    offset: int
    size: int


class Mapping(mmap.mmap):
    """A file that this process has mapped. It lives as long as a storage in it.

    Attributes:
        descriptor: of the file; closed with the mapping.
        base: address.
    """

    descriptor: int
    base: int

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.descriptor)


_mappings: WeakValueDictionary[int, Mapping] = WeakValueDictionary()


def mapped(descriptor: int) -> Mapping:
    """Maps a file, whose descriptor it takes over. Raises InterpreterError for one that cannot be mapped."""
    try:
        mapping = Mapping(descriptor, os.fstat(descriptor).st_size)
    except (OSError, ValueError) as error:
        os.close(descriptor)
        raise InterpreterError(f"memory of another interpreter cannot be mapped: {error}") from None
    mapping.descriptor = descriptor
    mapping.base = torch.frombuffer(mapping, dtype=torch.uint8).data_ptr()
    _mappings[mapping.base] = mapping
    return mapping


def _mapping_of(address: int) -> Mapping | None:
    """The mapping that an address lies in. A copy of the table: another thread may map meanwhile."""
    for mapping in list(_mappings.values()):
        if mapping.base <= address < mapping.base + len(mapping):
            return mapping
    return None


class Outbox:
    """Collects the storages of a message.

    Attributes:
        extents: one per storage.
        descriptors: of the files that they lie in. Valid until `close`, and as long as the storages live.
    """

    def __init__(self, in_place: bool = True) -> None:
        """Creates it.

        Args:
            in_place: moves storages of CPU tensors to shared memory, so that their tensors here and there are
                the same memory; else copies them, all into one file.
        """
        self.extents: list[Extent] = []
        self.descriptors: list[int] = []
        self._in_place = in_place
        self._keys: dict[int, int] = {}
        self._files: dict[int, int] = {}
        self._held: list[torch.UntypedStorage] = []
        self._copies: list[tuple[int, memoryview | bytes]] = []
        self._own: int | None = None

    def storage(self, storage: torch.UntypedStorage) -> int:
        """Adds a storage, and gives its number in the message. One on a device is copied."""
        if (known := self._keys.get(storage.data_ptr())) is not None and storage.nbytes():
            return known
        number = len(self.extents)
        self._held.append(storage)  # a temporary one would give its address to the next
        self._add(storage)
        self._keys[storage.data_ptr()] = number  # it may have moved
        return number

    def copy(self, data: memoryview | bytes) -> int:
        """Adds a copy of bytes, and gives its number in the message."""
        self._copies.append((len(self.extents), data))
        self.extents.append(Extent(-1, 0, len(data)))
        return len(self.extents) - 1

    def finish(self) -> None:
        """Writes the copies. Nothing is added afterwards."""
        if not any(len(data) for _, data in self._copies):
            return
        self._own = Area().descriptor
        file = self._file(self._own)
        end = 0
        for number, data in self._copies:
            if len(data):
                self.extents[number] = Extent(file, end, len(data))
                end += -(-len(data) // _ALIGNMENT) * _ALIGNMENT
        os.ftruncate(self._own, end)
        for number, data in self._copies:
            _write(self._own, data, self.extents[number].offset)

    def close(self) -> None:
        """Forgets the storages; the other process has its own descriptors."""
        if self._own is not None:
            os.close(self._own)
        self._held.clear()
        self._own = None

    def _add(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        if not size:
            self.extents.append(Extent(-1, 0, 0))
        elif storage.device.type != "cpu":
            self._held.append(storage.cpu())
            self.copy(_bytes(self._held[-1]))
        elif (mapping := _mapping_of(storage.data_ptr())) is not None:
            place = storage.data_ptr() - mapping.base
            self.extents.append(Extent(self._file(mapping.descriptor), place, size))
        elif self._in_place:
            self.extents.append(Extent(self._file(_moved(storage)), 0, size))
        else:
            self.copy(_bytes(storage))

    def _file(self, descriptor: int) -> int:
        if descriptor not in self._files:
            self._files[descriptor] = len(self.descriptors)
            self.descriptors.append(descriptor)
        return self._files[descriptor]


def _moved(storage: torch.UntypedStorage) -> int:
    """Moves a storage to shared memory, for all of its tensors, and gives the descriptor, which it keeps."""
    try:
        return shared_descriptor(storage)
    except RuntimeError as error:
        raise InterpreterError(f"a tensor cannot be moved to shared memory: {error}") from None


def _bytes(storage: torch.UntypedStorage) -> memoryview:
    """The memory of a storage on the CPU, which must outlive it."""
    array: Any = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    return memoryview(array)


def _write(descriptor: int, data: memoryview | bytes, offset: int) -> None:
    rest = memoryview(data).cast("B") if len(data) else memoryview(b"")
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


class Inbox:
    """Opens the storages of a message that came."""

    def __init__(self, extents: Sequence[Sequence[int]], descriptors: Sequence[int]) -> None:
        """Creates it. It takes over the descriptors; each is mapped when a storage in it is opened."""
        self._extents = [Extent(*each) for each in extents]
        self._descriptors = list(descriptors)
        self._mappings: dict[int, Mapping] = {}
        self._opened: dict[int, torch.UntypedStorage] = {}

    def storage(self, number: int) -> torch.UntypedStorage:
        """The storage, which is the sender's. Raises InterpreterError for one that is not in the message."""
        if number not in self._opened:
            self._opened[number] = self._open(self._extent(number))
        return self._opened[number]

    def copy(self, number: int) -> bytes:
        """A copy of the bytes. Raises InterpreterError."""
        extent = self._extent(number)
        return self._file(extent)[extent.offset : extent.offset + extent.size] if extent.size else b""

    def close(self) -> None:
        """Closes what was not opened. The storages stay."""
        for file, descriptor in enumerate(self._descriptors):
            if file not in self._mappings:
                os.close(descriptor)
        self._descriptors.clear()

    def _extent(self, number: int) -> Extent:
        if not 0 <= number < len(self._extents):
            raise InterpreterError("a storage that is not in the message")
        return self._extents[number]

    def _open(self, extent: Extent) -> torch.UntypedStorage:
        if not extent.size:
            return torch.UntypedStorage(0)
        mapping = self._file(extent)
        return torch.frombuffer(
            mapping, dtype=torch.uint8, count=extent.size, offset=extent.offset
        ).untyped_storage()

    def _file(self, extent: Extent) -> Mapping:
        if not 0 <= extent.file < len(self._descriptors):
            raise InterpreterError("a storage in a file that is not in the message")
        if extent.file not in self._mappings:
            self._mappings[extent.file] = mapped(self._descriptors[extent.file])
        mapping = self._mappings[extent.file]
        if extent.offset < 0 or extent.size < 0 or extent.offset + extent.size > len(mapping):
            raise InterpreterError("a storage beyond the end of its file")
        return mapping


class Parcel:
    """An object that was pickled, with its storages; bytes to this process.

    Attributes:
        extents: of its storages, and of the pickle.
        descriptors: of the files; closed with the parcel.
        pickle: number of the extent that holds the pickle.
    """

    def __init__(self, extents: Sequence[Sequence[int]], descriptors: Sequence[int], pickle: int) -> None:
        self.extents = [tuple(each) for each in extents]
        self.descriptors = tuple(descriptors)
        self.pickle = pickle

    def __del__(self) -> None:
        for each in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(each)
