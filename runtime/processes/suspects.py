"""Items that may have ended a process of the engine, and those that have."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import EngineFault
from runtime.processes.trees import BYTES_LIKE, flatten

MOST_DEATHS = 2
REFUSED_S = 600.0
_MOST_SUSPECTS = 1024
_SAMPLES = 1024  # bytes of an item that are looked at before all of it is hashed


class SuspectInBatch(Exception):
    """An item of the batch may end the process: it is to run alone."""


class _Suspect(NamedTuple):
    """`sample` tells most other items from it; `was_alone` is of the last of its `deaths`."""

    sample: int
    deaths: int
    was_alone: bool
    fault: EngineFault
    until: float


class Suspects:
    """Counts by an item's hash the processes that ended while they ran it.

    A suspect that runs well alone is none any more. The table is bounded; while it is empty it costs nothing.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._now = clock
        # Oldest first, by digest.
        self._entries: OrderedDict[bytes, _Suspect] = OrderedDict()

    def check(self, batch: Sequence[Any]) -> bool:
        """Whether the batch is one suspect, alone.

        Raises:
            SuspectInBatch: there are other items beside a suspect.
            EngineFault: the item has ended `MOST_DEATHS` processes.
        """
        self._forget_old()
        digests = self._known(batch)
        if not digests:
            return False
        if len(batch) > 1:
            raise SuspectInBatch("an item of the batch is to run alone")
        suspect = self._entries[digests[0]]
        if suspect.deaths >= MOST_DEATHS and suspect.was_alone:
            raise type(suspect.fault)(f"{suspect.fault}; the item has ended such processes twice and is refused")
        return True

    def add(self, batch: Sequence[Any], fault: EngineFault) -> int:
        """Records that a process ended while it ran this batch. Returns the fewest deaths of an item of it."""
        least = MOST_DEATHS
        for digest, sample in {_digest(item): _sample(item) for item in batch}.items():
            known = self._entries.pop(digest, None)
            deaths = known.deaths + 1 if known else 1
            self._entries[digest] = _Suspect(sample, deaths, len(batch) == 1, fault, self._now() + REFUSED_S)
            least = min(least, deaths)
        while len(self._entries) > _MOST_SUSPECTS:
            self._entries.popitem(last=False)
        return least

    def clear(self, batch: Sequence[Any]) -> None:
        """Records that suspects have run well."""
        for item in batch:
            self._entries.pop(_digest(item), None)

    def _known(self, batch: Sequence[Any]) -> list[bytes]:
        if not self._entries:
            return []
        samples = {each.sample for each in self._entries.values()}
        digests = (_digest(item) for item in batch if _sample(item) in samples)
        return [digest for digest in digests if digest in self._entries]

    def _forget_old(self) -> None:
        while self._entries and next(iter(self._entries.values())).until <= self._now():
            self._entries.popitem(last=False)


def _sample(item: Any) -> int:
    data = memoryview(_bytes(item))
    return zlib.crc32(bytes(data[:: max(1, len(data) // _SAMPLES)]))


def _digest(item: Any) -> bytes:
    return hashlib.blake2b(_bytes(item), digest_size=16).digest()


def _bytes(item: Any) -> Any:
    """The bytes of an item, those of an array without a copy where it is contiguous.

    An item may have `content`: what tells it from others.
    """
    item = getattr(item, "content", item)
    if isinstance(item, np.ndarray | np.generic):
        return np.ascontiguousarray(item).reshape(-1).view(np.uint8)
    if isinstance(item, BYTES_LIKE):
        return item
    leaves: list[Any] = []
    form = json.dumps(flatten(item, leaves)).encode()
    return b"".join([form, *(_kind(leaf) + memoryview(_bytes(leaf)) for leaf in leaves)])


def _kind(leaf: Any) -> bytes:
    """What tells arrays of the same bytes apart."""
    return b"" if isinstance(leaf, BYTES_LIKE) else f"{leaf.dtype.str}{leaf.shape}".encode()
