"""`python -m benchmark NAME`: the measurements of this folder."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

NOT_INSTALLED = 2

# What anything here needs: as it is imported, and as it is installed.
NEEDED = {
    "PIL": "pillow",
    "aiohttp": "aiohttp",
    "multipart": "multipart",
    "numpy": "numpy",
    "orjson": "orjson",
    "prometheus_client": "prometheus-client",
    "psutil": "psutil",
    "rich": "rich",
    "safetensors": "safetensors",
    "torch": "torch",
    "torchvision": "torchvision",
    "uvloop": "uvloop",
}
_COMMANDS = (
    "micro.accuracy",
    "micro.agreement",
    "micro.interpreters",
    "micro.memory",
    "micro.order",
    "micro.queue",
    "micro.recipe",
    "micro.steps",
    "pipeline.engines",
    "pipeline.limit",
    "service.gpu",
    "service.guests",
    "service.http",
    "service.lag",
    "service.overload",
    "service.poison",
    "service.policies",
    "service.runners",
    "service.swaps",
    "service.tensors",
    "service.torchserve",
    "load.command",
    "bombs.command",
    "peers.environment",
    "compare.command",
    "compare.plots",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a measurement. Returns its exit code, 2 when packages are missing, which are all named at once."""
    if missing := missing_packages():
        print(f"benchmark: these packages are missing: {' '.join(missing)}", file=sys.stderr)
        return NOT_INSTALLED
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    for name in _COMMANDS:
        import_module(f"benchmark.{name}").add_command(commands)
    chosen = parser.parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leaves no server behind
    try:
        return int(chosen.run(chosen))
    finally:
        signal.signal(signal.SIGTERM, previous)


def missing_packages() -> list[str]:
    """The names of all packages that are missing, as pip knows them."""
    return [package for module, package in NEEDED.items() if find_spec(module) is None]


if __name__ == "__main__":
    sys.exit(main())
