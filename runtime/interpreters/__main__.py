"""`python -m runtime.interpreters PACKAGE --pickle model model.pkl --ones 1,10 --replicas 4`: does a package run?

`python -m models run PACKAGE --pickle …` starts it: `models` may not import `runtime`.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from models.commands.run import add_options, head
from models.machine.process import prepare_process
from runtime.interpreters.errors import InterpreterError
from runtime.interpreters.manager import InterpreterManager
from runtime.interpreters.replicated import ReplicatedObject
from runtime.interpreters.session import Session


def main(arguments: list[str] | None = None) -> int:
    """Loads the pickle and calls it on each interpreter. Returns 0, or 1 where it does not load or run."""
    parser = ArgumentParser(prog="python -m runtime.interpreters", description=__doc__, allow_abbrev=False)
    parser.add_argument("file", type=Path, metavar="PACKAGE", help="file of torch.package")
    add_options(parser)
    options = parser.parse_args(arguments)
    if options.pickle is None:
        parser.error("--pickle MODULE FILE is missing")
    prepare_process()
    with InterpreterManager(options.replicas) as manager:
        try:
            model = manager.load_package(options.file).load_pickle(*options.pickle)
        except InterpreterError as error:
            print(f"error loading the model: {_line(error)}", file=sys.stderr)
            return 1
        return _run(manager, model, options)


def _run(manager: InterpreterManager, model: ReplicatedObject, options: Namespace) -> int:
    ones = torch.ones(options.ones, dtype=getattr(torch, options.dtype))
    try:
        outputs = [_output(manager[number], model, ones) for number in range(options.replicas)]
    except InterpreterError as error:
        print(f"error running the model: {_line(error)}", file=sys.stderr)
        return 1
    print("ok")
    for number, output in enumerate(outputs):
        for line in _lines(output, options.head):
            print(f"replica {number}: {line}")
    return 0


def _output(session: Session, model: ReplicatedObject, ones: torch.Tensor) -> object:
    return model.to_obj(session)(ones).deref()


def _lines(output: object, count: int) -> list[str]:
    first = output[0] if isinstance(output, list | tuple) and output else output
    return head(first, count) if isinstance(first, torch.Tensor) else [repr(output)]


def _line(error: InterpreterError) -> str:
    return (str(error).strip().splitlines() or [""])[0]


if __name__ == "__main__":
    sys.exit(main())
