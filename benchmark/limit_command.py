"""The bound of this machine, pictures through decode and engine without HTTP: `python -m benchmark limit`."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.limit import BATCH_SIZES, PICTURE, Limit, Setting, usual_settings
from benchmark.machine import describe_machine
from benchmark.settings import settings
from models.machine.resources import usable_cores


def add_command(commands: Any) -> None:
    """Adds `limit` to the command line."""
    parser = commands.add_parser("limit", help=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="bundle")
    parser.add_argument("--engine", default="", help="of the bundle; default: its own")
    parser.add_argument("--picture", type=Path, action="append", help="may be repeated; default: one of 64 KB")
    parser.add_argument("--setting", type=_setting, action="append", metavar="PROCESSESxTHREADS[xDECODE]")
    parser.add_argument("--batch-sizes", type=_sizes, default=BATCH_SIZES, help="tried; default: 1,4,8,16,32")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round; default: %(default)s")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def _setting(text: str) -> Setting:
    processes, threads, *decode = (int(word) for word in text.split("x"))
    return Setting(processes, threads, *(decode or [threads]))


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def run(options: argparse.Namespace) -> int:
    """Measures the settings in turns, prints them, writes the JSON; the best one is the limit."""
    chosen = options.setting or usual_settings(usable_cores())
    pictures, sizes = options.picture or (PICTURE,), options.batch_sizes
    with ExitStack() as stack:
        limits = [
            stack.enter_context(Limit(options.model, options.engine, each, pictures, max(sizes)))
            for each in chosen
        ]
        tried = [limit.tune(sizes) for limit in limits]
        rounds = [[limit.measure(options.seconds) for limit in limits] for _ in range(options.rounds)]
    rows: list[dict[str, Any]] = [
        {
            "processes": limit.setting.processes,
            "threads": limit.setting.threads,
            "decode_threads": limit.setting.decode_threads,
            "batch_size": limit.batch_size,
            "images_per_s": round(median(each[number] for each in rounds), 1),
            "images_per_s_rounds": [round(each[number], 1) for each in rounds],
            "images_per_s_by_batch_size": tried[number],
        }
        for number, limit in enumerate(limits)
    ]
    best = max(rows, key=lambda row: row["images_per_s"])
    _print(rows, best)
    if options.output:
        result: dict[str, Any] = {
            "benchmark": "limit",
            "machine": describe_machine(),
            "options": settings(options),
        }
        result |= {"rows": rows, "limit_per_s": best["images_per_s"]}
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _print(rows: list[dict[str, Any]], best: dict[str, Any]) -> None:
    table = Table("processes", "threads", "decode", "batch", "images/s", "by round", "by batch size")
    for row in rows:
        cells = [str(row[name]) for name in ("processes", "threads", "decode_threads", "batch_size")]
        by_round = " ".join(f"{rate:.0f}" for rate in row["images_per_s_rounds"])
        by_size = " ".join(f"{size}:{rate:.0f}" for size, rate in row["images_per_s_by_batch_size"].items())
        table.add_row(*cells, f"{row['images_per_s']:.1f}", by_round, by_size)
    console = Console(width=150)
    console.print(table)
    console.print(f"the limit of this machine: {best['images_per_s']:.1f} images/s", highlight=False)
