"""What the machine has and uses, as TorchServe reports it."""

from __future__ import annotations

import psutil

_MEGABYTE, _GIGABYTE = 1024**2, 1024**3
_DISK = "/"


class Host:
    """Reads figures of this machine."""

    def __init__(self) -> None:
        """Creates it; the first figure of the processor is of the time since then."""
        psutil.cpu_percent()

    def read(self) -> dict[str, float]:
        """The figures of now, by name of TorchServe's metric."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(_DISK)
        return {
            "CPUUtilization": psutil.cpu_percent(),
            "MemoryUtilization": memory.percent,
            "MemoryUsed": memory.used / _MEGABYTE,
            "MemoryAvailable": memory.available / _MEGABYTE,
            "DiskUtilization": disk.percent,
            "DiskUsage": disk.used / _GIGABYTE,
            "DiskAvailable": disk.free / _GIGABYTE,
        }
