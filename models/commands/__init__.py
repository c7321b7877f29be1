"""Subcommands of `python -m models`: one file each, with add_parser(subparsers) and run(arguments)."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Protocol


class Subparsers(Protocol):
    """What argparse's `add_subparsers` returns; its class has no public name."""

    def add_parser(self, name: str, *, help: str) -> ArgumentParser:
        """Adds a command."""
        ...
