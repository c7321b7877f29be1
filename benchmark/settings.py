"""A command's options as a result names them."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.server_process import ROOT


def settings(options: argparse.Namespace) -> dict[str, str]:
    """The options that were given or have a default; paths by their place in the project."""
    return {
        name: ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else _plain(value)
        for name, value in vars(options).items()
        if name not in ("run", "usage_error") and value is not None
    }


def _plain(value: object) -> str:
    if not isinstance(value, Path):
        return str(value)
    whole = value.resolve()
    return str(whole.relative_to(ROOT)) if whole.is_relative_to(ROOT) else whole.name
