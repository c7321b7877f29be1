"""The real server with a model that costs nothing: `python -m benchmark.trivial_server --core 0`.

Everything is as in `python -m server`, its options too, but for the preprocessor, which hashes the bytes instead
of decoding them, and the engine, which makes scores of the hash.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import server.app
from benchmark import trivial_model
from benchmark.server_process import ROOT, ServerProcess
from models.engines import ENGINES
from server.__main__ import main as serve

_FOLDER = ROOT / ".cache" / "trivial-model"


class TrivialServer(ServerProcess):
    """It in a process of its own; a context manager that ends it."""

    def __init__(self, *options: str) -> None:
        """Starts it on a free port; `options` are those of the command line."""
        super().__init__(*options, module="benchmark.trivial_server")


def _preprocessor(*_: Any) -> trivial_model.HashPreprocessor:
    return trivial_model.HashPreprocessor()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server, one worker in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.trivial_server", description=__doc__)
    parser.add_argument("--core", type=int, help="the only core that it may use; default: all")
    own, options = parser.parse_known_args(arguments)
    if own.core is not None:
        os.sched_setaffinity(0, {own.core})
    _FOLDER.mkdir(parents=True, exist_ok=True)
    trivial_model.write_bundle(_FOLDER)
    ENGINES[trivial_model.KIND] = trivial_model.__name__
    server.app.Preprocessor = _preprocessor  # type: ignore[attr-defined, assignment]
    return serve(["--model", str(_FOLDER), "--workers", "1", *options])


if __name__ == "__main__":
    sys.exit(main())
