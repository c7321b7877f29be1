"""Figures of several processes in a folder of files; every private name of prometheus_client is here."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest, mmap_dict, values
from prometheus_client.multiprocess import MultiProcessCollector

from models.machine.locked_folder import LockedFolder
from server.operations.shared_folder import allocate, make_shared_folder

log = logging.getLogger("snapserve")

SUPERVISOR = "supervisor"
_BYTES = 1 << 16  # of a file; it doubles where it is too small
# One file each per process.
_KINDS = (
    "counter",
    "histogram",
    "summary",
    "gauge_livesum",
    "gauge_livemax",
    "gauge_livemin",
    "gauge_livemostrecent",
)
_VALUE_BYTES = 16  # a value and its time
_ENTRY_BYTES = 32  # of an entry, besides its name


@dataclass(frozen=True)
class SharedMetrics:
    """The folder in which processes that belong together keep their figures, so that each can tell all of them.

    Attributes:
        folder: in shared memory where there is such a thing.
        member: name of this process there. A worker that takes the place of another goes on with its counters.
    """

    folder: Path
    member: str

    def join(self) -> None:
        """Makes every metric that this process creates from now on a shared one."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder)
        values.MmapedDict = _AllocatedDict  # type: ignore[attr-defined]
        values.ValueClass = values.MultiProcessValue(lambda: self.member)

    def forget_gauges(self, member: str) -> None:
        """Takes a process that has ended out of the gauges; what it counted stays.

        The files stay as well, empty: the next process of that name might find no room for new ones.
        """
        for file in self.folder.glob(f"gauge_live*_{member}.db"):
            with file.open("r+b") as opened:
                opened.write(bytes(8))  # where the number of used bytes stands

    def exposition(self) -> bytes:
        """The figures of all."""
        return generate_latest(self._registry())

    def families(self) -> Iterable[Metric]:
        """The same as objects."""
        return self._registry().collect()

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self.folder))
        return registry


def make_metrics_folder(workers: int) -> LockedFolder | None:
    """The folder of a supervisor and its workers, with room for their files; None where there is no room."""
    members = (SUPERVISOR, *map(str, range(workers)))
    return make_shared_folder([f"{kind}_{member}" for kind in _KINDS for member in members], _BYTES)


class _AllocatedDict(mmap_dict.MmapedDict):
    """Values in a mapped file, all of which has its room before it is mapped.

    The library's own grows by `truncate`: a file system that is full then ends the process with SIGBUS at some
    later write. Here a value for which there is no room is kept in memory that is not reported.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        try:
            with Path(filename).open("ab") as file:
                allocate(file.fileno(), _BYTES)
        except OSError as error:
            log.warning("no room for %s (%s): its metrics are not reported", filename, error.strerror)
            filename = f"/proc/self/fd/{os.memfd_create('metrics')}"
        super().__init__(filename, read_mode)
        self._is_full = False

    def read_value(self, key: str) -> tuple[float, float]:
        """A value and its time; one that is new gets its place before, which `write_value` then finds."""
        if key not in self._positions and not self._has_room(key):
            self._positions[key] = self._capacity - _VALUE_BYTES
        value, time = super().read_value(key)
        return value, time

    def _has_room(self, key: str) -> bool:
        needed = self._used + len(key.encode()) + _ENTRY_BYTES + _VALUE_BYTES
        return needed <= self._capacity or self._has_grown(needed)

    def _has_grown(self, needed: int) -> bool:
        """Doubles the room of the file as often as it takes; False where the file system is full."""
        size = self._capacity
        while size < needed:
            size *= 2
        try:
            allocate(self._f.fileno(), size)
        except OSError as error:
            if not self._is_full:
                log.warning("no room for more metrics (%s): new ones are not reported", error.strerror)
            self._is_full = True
            return False
        return True
