"""`run FILE --ones 1,3,224,224 --head 5`: does a compiled model, or one in a package, load and answer?"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.commands import Subparsers
from models.errors import EngineError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "uint8")
PACKAGES = "runtime.interpreters"  # the program that runs packages, in processes; this folder may not import it


def add_parser(subparsers: Subparsers) -> None:
    """Adds `run` to the command line."""
    parser = subparsers.add_parser(
        "run", help="run a TorchScript or .pt2 file, or a torch.package, on ones and print its output"
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help=".pt, .ts (TorchScript), .pt2 (torch.export, AOTInductor), or a torch.package with --pickle",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of `run`, all of which the program for packages has, too."""
    parser.add_argument(
        "--ones", type=_shape, default=(1, 3, 224, 224), metavar="SHAPE", help="shape of the input [1,3,224,224]"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="dtype of the input [float32]")
    parser.add_argument("--head", type=_count, default=5, metavar="N", help="values printed per row [5]")
    parser.add_argument(
        "--pickle",
        nargs=2,
        metavar=("MODULE", "PICKLE"),
        help="FILE is a torch.package with this pickle; to load it runs code of the package",
    )
    parser.add_argument(
        "--replicas", type=_positive, default=1, metavar="N", help="processes that run the package [1]"
    )


def run(arguments: Namespace) -> int:
    """Prints "ok" once the model is loaded and has run, then the first values of each row of its output."""
    if arguments.pickle:
        return _run_package(arguments)
    import torch

    model = load_program(arguments.file)
    if model is None:
        print(f"error loading the model: {arguments.file}", file=sys.stderr)
        return 1
    ones = torch.ones(arguments.ones, dtype=getattr(torch, arguments.dtype))
    try:
        with torch.inference_mode():
            output = model(ones)
    # The program is a user's: it may raise any exception.
    except Exception:
        shape = ", ".join(map(str, arguments.ones))
        error = EngineError(f"{arguments.file}: does not run on {arguments.dtype} [{shape}]")
        print(f"error running the model: {error}", file=sys.stderr)
        return 1
    print("ok")
    for line in head(output, arguments.head):
        print(line)
    return 0


def _run_package(arguments: Namespace) -> int:
    """Hands over to the program for packages."""
    words = ["--pickle", *arguments.pickle, "--ones", ",".join(map(str, arguments.ones))]
    words += ["--dtype", arguments.dtype, "--head", str(arguments.head), "--replicas", str(arguments.replicas)]
    file = str(arguments.file.absolute())
    return subprocess.run([sys.executable, "-m", PACKAGES, file, *words], check=False).returncode


def load_program(file: Path) -> Callable[[torch.Tensor], Any] | None:
    """Loads TorchScript, or a `.pt2` of torch.export or AOTInductor. Returns None where that fails."""
    import torch

    from models.networks.graph import jit_warnings_ignored

    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                return None
            compiled = any("/aotinductor/" in name for name in archive.namelist())
        if compiled:
            from models.engines.aotinductor import load_package

            return load_package(file)
        if file.suffix == ".pt2":
            exported: Callable[[torch.Tensor], Any] = torch.export.load(file).module()
            return exported
        with jit_warnings_ignored():
            scripted: torch.jit.ScriptModule = torch.jit.load(file, map_location="cpu").eval()
            return scripted
    except Exception:
        return None


def head(output: Any, count: int) -> list[str]:
    """The first `count` values of each row of a tensor (of the first one, where the model gives several)."""
    first = output[0] if isinstance(output, tuple) else output
    rows = first.reshape(first.shape[0], -1) if first.dim() > 1 else first.reshape(1, -1)
    return [" ".join(f"{value:.6g}" for value in row[:count].tolist()) for row in rows]


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ArgumentTypeError(f"{text!r} must be positive numbers with commas, like 1,3,224,224")
    return shape


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} must be a number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text!r} must be a number, 1 or more")
    return int(text)
