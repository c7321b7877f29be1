"""What each step from a JPEG to the model's pixels costs: `python -m benchmark micro`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import PIL
import torch
from rich.console import Console
from rich.table import Table

from benchmark.machine import describe_machine
from benchmark.micro.pictures import PORTRAIT, twelve_megapixels
from benchmark.micro.steps import FULL, PRESET, UNSCALED, WHOLE, steps

Times = dict[str, list[float]]


def add_command(commands: Any) -> None:
    """Adds `micro` to the command line."""
    parser = commands.add_parser("micro", help=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="on 64 KB; a fifth on 12 MP; default: %(default)s")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures, prints a table for each picture, writes the JSON."""
    torch.set_num_threads(1)
    small = _measure(PORTRAIT.read_bytes(), options.rounds)
    big = _measure(twelve_megapixels(), max(3, options.rounds // 5))
    for title, result in ((f"{PORTRAIT.name}, 64 KB", small), ("4000 x 3000", big)):
        _print(f"{title}, ms, one thread, Pillow {PIL.__version__}", result)
    if options.output:
        result = {"benchmark": "micro", "machine": describe_machine(), "pillow": PIL.__version__}
        result |= {"64 KB": small, "12 MP": big}
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(data: bytes, rounds: int) -> dict[str, Any]:
    chosen = steps(data)
    times: Times = {name: [] for name in chosen}
    for _ in range(rounds + 1):  # interleaved; the first round warms up
        for name, step in chosen.items():
            times[name].append(_milliseconds(step))
    medians = {name: round(median(each[1:]), 3) for name, each in times.items()}
    spread = {name: [round(min(each[1:]), 3), round(max(each[1:]), 3)] for name, each in times.items()}
    return {
        "bytes": len(data),
        "rounds": rounds,
        "median_ms": medians,
        "least_and_most_ms": spread,
        "faster_than_preset": round(medians[PRESET] / medians[WHOLE], 2),
        "share_of_full": round(medians[WHOLE] / medians[FULL], 3),
        "share_of_unscaled": round(medians[WHOLE] / medians[UNSCALED], 3),
    }


def _milliseconds(step: Callable[[], object]) -> float:
    step()  # not timed: leaves the caches and the allocator as they are in a service that does only this
    started = time.perf_counter()
    step()
    return (time.perf_counter() - started) * 1000


def _print(title: str, result: dict[str, Any]) -> None:
    table = Table("step", title=title)
    for name in ("median", "least", "most"):
        table.add_column(name, justify="right")
    for name, value in result["median_ms"].items():
        least, most = result["least_and_most_ms"][name]
        table.add_row(name, f"{value:.2f}", f"{least:.2f}", f"{most:.2f}")
    console = Console(width=100)
    console.print(table)
    console.print(
        f"{result['faster_than_preset']} x as fast as the preset; {result['share_of_full']} of a full decode "
        f"and resize, {result['share_of_unscaled']} of --no-scaled-decode"
    )
