"""Questions about paths that people have typed: a name that no file can have is no file, and no error."""

from __future__ import annotations

from pathlib import Path


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder. `Path.exists` raises for names that are too long."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_file(path: str | Path) -> bool:
    """Whether there is such a file."""
    return exists(path) and Path(path).is_file()
