"""`python -m benchmark NAME`: the measurements of this folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmark import engines, lag, policies, queue
from benchmark.micro import agreement, memory
from benchmark.micro import command as micro


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    engines.add_command(commands)
    lag.add_command(commands)
    policies.add_command(commands)
    queue.add_command(commands)
    micro.add_command(commands)
    agreement.add_command(commands)
    memory.add_command(commands)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


if __name__ == "__main__":
    sys.exit(main())
