"""`python -m models export|run|compare|inspect`: tools for model files."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from models.commands import compare, export, inspect, run
from models.errors import ModelError
from models.machine.process import prepare_process


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0, or 1 for a model that does not do what was asked, or 2 for wrong use and damaged files.
    """
    parser = ArgumentParser(
        prog="python -m models", description="Tools for model files and bundles.", allow_abbrev=False
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (export, run, compare, inspect):
        command.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    prepare_process()
    try:
        code: int = parsed.run(parsed)
    except ModelError as error:
        print(f"{parser.prog} {parsed.command}: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    return code


if __name__ == "__main__":
    sys.exit(main())
