"""Results: options, tables for the terminal, and JSON with the machine that the figures were measured on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.harness.server import ROOT
from models.machine.processor import cpu_name
from models.machine.resources import package_version

Row = dict[str, Any]

_PACKAGES = ("torch", "torchvision", "aiohttp", "uvloop", "numpy", "pillow", "prometheus-client", "multipart")
_CARD = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit,pcie.link.gen.current"
_WIDTH = 115  # of a line of JSON


def add_parser(
    commands: Any, name: str, about: str | None, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A command of `python -m benchmark` that writes its result to `--output`."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about)
    parser.set_defaults(run=run)
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    return parser


def add_option(parser: argparse.ArgumentParser, name: str, default: Any, about: str = "") -> None:
    """An option with a default, which decides about its type and is shown."""
    words = "; ".join(filter(None, (about, "default: %(default)s")))
    parser.add_argument(f"--{name}", type=type(default), default=default, help=words)


def numbers(text: str) -> tuple[int, ...]:
    """The type of an option that takes whole numbers, separated by commas."""
    return tuple(int(word) for word in text.split(","))


def write_result(benchmark: str, options: argparse.Namespace, **measured: Any) -> None:
    """Writes `--output`, if it was given: machine, options, and what was measured."""
    if options.output:
        write_json(options.output, describe(benchmark, options, **measured))


def describe(benchmark: str, options: argparse.Namespace, **measured: Any) -> Row:
    """A result: name of the benchmark, machine, options, and what was measured."""
    return {"benchmark": benchmark, "machine": describe_machine(), "options": settings(options), **measured}


def write_json(file: Path, value: Any) -> None:
    """Writes a result."""
    file.write_text(as_json(value) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any:
    """Reads a result."""
    return json.loads(file.read_text(encoding="utf-8"))


def as_json(value: Any, depth: int = 0, used: int = 0) -> str:
    """JSON in few lines: a list of numbers is one line, and so is all else that fits into one."""
    line = json.dumps(value, ensure_ascii=False)
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    is_nested = isinstance(value, dict) or any(isinstance(part, dict | list | tuple) for part in parts)
    if not parts or not is_nested or depth + used + len(line) <= _WIDTH:
        return line
    names = [f"{json.dumps(name, ensure_ascii=False)}: " for name in value] if isinstance(value, dict) else []
    heads = names or [""] * len(parts)
    inner = " " * (depth + 1)
    rows = [
        f"{inner}{head}{as_json(part, depth + 1, len(head) + 1)}" for head, part in zip(heads, parts, strict=True)
    ]
    begin, end = "{}" if names else "[]"
    return "\n".join((begin, ",\n".join(rows), " " * depth + end))


def settings(options: argparse.Namespace) -> Row:
    """The options that were given or have a default; paths by their place in the project."""
    return {
        name: [_plain(each) for each in value] if isinstance(value, list | tuple) else _plain(value)
        for name, value in vars(options).items()
        if name not in ("run", "usage_error") and value is not None
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        whole = value.resolve()
        return str(whole.relative_to(ROOT)) if whole.is_relative_to(ROOT) else whole.name
    return value if isinstance(value, bool | int | float) else str(value)


def print_table(title: str, rows: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """A line per row, a column per key of the first one; numbers of 1 and more have two decimals."""
    table = Table(title=title)
    for name, value in rows[0].items():
        is_text = _cell(value)[:1].isalpha()
        table.add_column(name.replace("_", " "), justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in rows[0]))
    (console or Console(width=160)).print(table, highlight=False)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4g}"
    return str(value)


def describe_machine() -> Row:
    """Processor, versions, commit, date, and graphics card."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": describe_gpu(),
    }


def commit(checkout: Path = ROOT) -> str:
    """Of a checkout of the project, as git describes it."""
    if shutil.which("git") is None:
        return "unknown"
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def describe_gpu() -> Row | None:
    """Card, driver, CUDA and cuDNN, as they were found; None where there is no card."""
    import torch

    if not torch.cuda.is_available():
        return None
    cudnn: Any = torch.backends.cudnn  # has no types
    return {
        "name": torch.cuda.get_device_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
        **_driver_facts(),
    }


def _driver_facts() -> dict[str, str]:
    if shutil.which("nvidia-smi") is None:
        return {}
    words = ["nvidia-smi", f"--query-gpu={_CARD}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    names = _CARD.split(",")
    return dict(zip(names, values, strict=True)) if len(values) == len(names) else {}
