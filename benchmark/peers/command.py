"""Installs the peers' environments and lists them: `python -m benchmark peers`."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.peers.environment import Environment, PeerMissing

ENVIRONMENTS = ("fastapi", "litserve", "mosec", "bentoml")


def add_command(commands: Any) -> None:
    """Adds `peers` to the command line."""
    parser = commands.add_parser("peers", help=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENVIRONMENTS)}; default: all")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Installs what is not there. 1 if a peer cannot be had, 2 if there is none of that name."""
    unknown = sorted(set(options.names) - set(ENVIRONMENTS))
    if unknown:
        print(f"peers: there is no {unknown[0]!r}; there are {', '.join(ENVIRONMENTS)}")
        return 2
    table, missing = Table("peer", "packages"), 0
    for name in options.names or ENVIRONMENTS:
        environment = Environment(name)
        try:
            environment.install()
        except PeerMissing as error:
            missing += 1
            table.add_row(name, f"missing: {error}")
        else:
            table.add_row(name, " ".join(f"{each}=={version}" for each, version in environment.versions().items()))
    Console().print(table)
    return 1 if missing else 0
