"""What a figure was measured on: written beside every result."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.server_process import ROOT
from models.machine.processor import cpu_name
from models.machine.resources import package_version

_PACKAGES = ("torch", "torchvision", "aiohttp", "uvloop", "numpy", "pillow", "prometheus-client", "multipart")


def describe_machine() -> dict[str, Any]:
    """Processor, versions, commit and date."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit(checkout: Path = ROOT) -> str:
    """Of a checkout of the project, as git describes it."""
    if shutil.which("git") is None:
        return "unknown"
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
