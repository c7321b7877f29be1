"""Further Python processes of a command, which import the same packages as the command itself."""

from __future__ import annotations

import sys
from pathlib import Path


def module_command(module: str, *words: str) -> list[str]:
    """The command that runs a module in a new interpreter.

    `python -m` searches the working directory first. The commands that pip installs do not, so neither do their
    processes: a `server.py` or `models.py` of a user there would be imported in place of SnapServe's.
    """
    return [sys.executable, *(() if _searches_here() else ("-P",)), "-m", module, *words]


def _searches_here() -> bool:
    try:
        return not {"", str(Path.cwd())}.isdisjoint(sys.path)
    except FileNotFoundError:  # the working directory was removed
        return False
