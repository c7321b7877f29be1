"""The facts about this machine and its libraries that are written beside measurements."""

from __future__ import annotations

import math
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.cgroup import cpu_limit, memory_limit

# What the compiled graphs and the int8 kernels depend on; the words are those of Linux.
_ISA = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
)


def built_with() -> dict[str, Any]:
    """Versions, processor, graphics card (or None), cores and the date."""
    import torch

    return {
        "torch": torch.__version__,
        "torchvision": package_version("torchvision"),
        "openvino": package_version("openvino"),
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "isa": processor_kind(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": usable_cores(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_name() -> str:
    """The processor's marketing name where Linux tells it, else what Python knows."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_kind() -> str:
    """Architecture and vector instructions, e.g. "x86_64 avx2 avx512f avx512_vnni".

    The same on processors on which a compiled graph runs in the same way, whatever their names.
    """
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return " ".join([platform.machine(), *(name for name in _ISA if name in flags)])


def usable_cores() -> int:
    """Those that this process may run on, which in a container are often fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = cpu_limit()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def usable_memory() -> int | None:
    """Bytes of memory that this process and others of its container have together; None where nobody tells."""
    try:
        installed: int | None = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        installed = None
    return min((size for size in (installed, memory_limit()) if size is not None), default=None)


def package_version(name: str) -> str | None:
    """None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key), "")
