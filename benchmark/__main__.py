"""`python -m benchmark NAME`: the measurements of this folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmark import engines, gpu, http, lag, lone, policies, queue
from benchmark import limit_command as limit
from benchmark.compare import command as compare
from benchmark.compare import drawings
from benchmark.load import command as load
from benchmark.micro import agreement, memory
from benchmark.micro import command as micro
from benchmark.peers import command as peers


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    engines.add_command(commands)
    gpu.add_command(commands)
    http.add_command(commands)
    lag.add_command(commands)
    limit.add_command(commands)
    load.add_command(commands)
    lone.add_command(commands)
    peers.add_command(commands)
    policies.add_command(commands)
    queue.add_command(commands)
    compare.add_command(commands)
    drawings.add_command(commands)
    micro.add_command(commands)
    agreement.add_command(commands)
    memory.add_command(commands)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


if __name__ == "__main__":
    sys.exit(main())
