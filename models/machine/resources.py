"""The facts about this machine and its libraries that are written beside measurements."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from models.machine.cgroup import cpu_limit, memory_limit
from models.machine.processor import cpu_name, processor_kind


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


def usable_cores() -> int:
    """Those that this process may run on, which in a container are often fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = cpu_limit()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def usable_memory() -> int | None:
    """Bytes of memory that this process and others of its container have together; None where it is unknown."""
    try:
        installed: int | None = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        installed = None
    return min((size for size in (installed, memory_limit()) if size is not None), default=None)


def card_memory() -> int | None:
    """Bytes of memory of the smallest NVIDIA card; None where the driver does not tell. Does without torch."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    words = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
        return min((int(line) << 20 for line in done.stdout.split()), default=None)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def package_version(name: str) -> str | None:
    """None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
