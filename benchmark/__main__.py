"""`python -m benchmark NAME`: the measurements of this folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmark.requirements import missing_packages

NOT_INSTALLED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a measurement. Returns its exit code, 2 when packages are missing, which are all named at once."""
    if missing := missing_packages():
        print(f"benchmark: these packages are missing: {' '.join(missing)}", file=sys.stderr)
        return NOT_INSTALLED
    from benchmark.commands import COMMANDS

    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    for command in COMMANDS:
        command.add_command(commands)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


if __name__ == "__main__":
    sys.exit(main())
