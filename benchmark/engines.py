"""Every engine of a device beside each other, over batch sizes: `python -m benchmark engines --device cuda`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmark.card import describe_gpu
from benchmark.entrants import Entrant, compare, entrants, measure, prepare
from benchmark.machine import describe_machine
from benchmark.settings import settings
from models.optimize.timing import CPU_BATCH_SIZES, CUDA_BATCH_SIZES

_GOALS = {"images_per_s": 40_000, "lone_ms": 0.5}  # of the best batch and of a batch of one, on an H200-class card
_REFERENCES = ("eager-fp16", "compile-fp16", "eager-fp32")


def add_command(commands: Any) -> None:
    """Adds `engines` to the command line."""
    parser = commands.add_parser("engines", help=__doc__)
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=here, help="default: %(default)s")
    parser.add_argument("--engines", default="", help="names, separated by commas; default: all that run here")
    parser.add_argument("--sizes", default="", help="batch sizes, separated by commas; default: the device's")
    parser.add_argument("--rounds", type=int, default=7, help="that count; default: %(default)s")
    parser.add_argument("--limit-s", type=float, default=240.0, help="to prepare one engine; default: %(default)s")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prepares, measures in rounds, prints the tables, writes the JSON. Returns 1 when no engine runs."""
    console = Console(width=200)
    usual = CUDA_BATCH_SIZES if options.device == "cuda" else CPU_BATCH_SIZES
    sizes = tuple(int(word) for word in options.sizes.split(",")) if options.sizes else usual
    wanted = options.engines.split(",") if options.engines else []
    found = [each for each in entrants(options.device) if not wanted or each.name in wanted]
    with tempfile.TemporaryDirectory() as folder:
        prepare(found, Path(folder), options.device, max(sizes), options.limit_s, console)
    running = [each for each in found if each.engine is not None]
    if not running:
        _print_reasons(found, console)
        console.print(f"no engine of device {options.device!r} runs here")
        return 1
    differences = compare(running, max(sizes))
    measure(running, sizes, options.rounds, options.device == "cuda", console)
    for title, attribute in (("infer, copies included", "infer_ms"), ("the device alone", "device_ms")):
        if any(getattr(each, attribute) for each in running):
            console.print(table(running, title, attribute))
    _print_reasons(found, console)
    if options.output:
        result = {
            "benchmark": "engines",
            "machine": {**describe_machine(), "gpu": describe_gpu()},
            "model": "ResNet18 with random weights: for speed only",
            "options": settings(options),
            "goals": _GOALS if options.device == "cuda" else None,
            "largest_score_difference": differences,
            "engines": [each.to_json() for each in found],
        }
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _print_reasons(found: Sequence[Entrant], console: Console) -> None:
    for each in found:
        if each.reason:
            console.print(f"{each.name}: {each.reason}", markup=False, highlight=False)


def table(running: Sequence[Entrant], title: str, attribute: str) -> Table:
    """Images/s, ms per batch, and how many times as fast as each reference that took part."""
    medians = {
        each.name: {size: median(rounds) for size, rounds in getattr(each, attribute).items()} for each in running
    }
    references = [name for name in _REFERENCES if medians.get(name)]
    drawn = Table(title=f"{title}: images/s, ms per batch, times as fast as {' and '.join(references)}")
    drawn.add_column("engine", no_wrap=True)
    for size in next(timed for timed in medians.values() if timed):
        drawn.add_column(str(size), justify="right", no_wrap=True)
    for name, timed in medians.items():
        cells = []
        for size, ms in timed.items():
            others = (medians[reference].get(size) for reference in references)
            ratios = (f"{other / ms:.2f}x" if other else "-" for other in others)
            cells.append("\n".join((f"{size * 1000 / ms:,.0f}", f"{ms:.3g} ms", " ".join(ratios))))
        drawn.add_row(name, *cells)
    return drawn
