"""What a container or a systemd service may use of the machine: Linux control groups, versions 2 and 1.

https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")

_UNLIMITED_V1 = 1 << 60  # version 1 says "no limit" with a number near 2^63


def cpu_limit() -> float | None:
    """Cores' worth of time that this process may use; None without a limit."""
    limits = [limit for folder in _folders() if (limit := _quota(folder)) is not None]
    return min(limits, default=None)


def memory_limit() -> int | None:
    """Bytes that this process and those beside it may hold; None without a limit."""
    texts = [_read(folder / "memory.max") for folder in _folders()] + [
        _read(ROOT / "memory/memory.limit_in_bytes")
    ]
    return min((int(text) for text in texts if text.isdigit() and int(text) < _UNLIMITED_V1), default=None)


def _quota(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if folder == ROOT and not quota:
        quota, period = _read(ROOT / "cpu/cpu.cfs_quota_us"), _read(ROOT / "cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _folders() -> Iterator[Path]:
    """Our own group and those that it lies in: each of them limits."""
    own = next((line[4:] for line in _read(OWN).splitlines() if line.startswith("0::/")), "")
    folder = ROOT / own
    while folder != ROOT and ROOT in folder.parents:
        yield folder
        folder = folder.parent
    yield ROOT


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
