"""Draws the plots of the documents from results: `python -m benchmark plots`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.compare.plot import draw_latency, draw_throughput
from benchmark.server_process import ROOT

Row = dict[str, Any]


def add_command(commands: Any) -> None:
    """Adds `plots` to the command line."""
    results = ROOT / "benchmark" / "results"
    parser = commands.add_parser("plots", help=__doc__)
    parser.add_argument("--compare", type=Path, default=results / "serve-compare.json", help="of serve-compare")
    parser.add_argument("--load", type=Path, default=results / "load.json", help="of load")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder; default: docs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draws `serve-compare.svg` and `latency.svg`, each where its result is there. 1 if none is."""
    drawn = 0
    for source, name, draw in (
        (options.compare, "serve-compare", draw_compare),
        (options.load, "latency", draw_load),
    ):
        if source.exists():
            target = options.output / f"{name}.svg"
            draw(json.loads(source.read_text(encoding="utf-8")), target)
            print(f"plots: {target} from {source}")
            drawn += 1
    return 0 if drawn else 1


def draw_compare(result: Row, file: Path) -> None:
    """The throughput of a result of `serve-compare`."""
    machine, options = result["machine"], result["options"]
    cores = options["cores"] or machine["cores"]
    title = f"ResNet18, 64 KB JPEG, {options['connections']} connections, {cores} cores: {machine['cpu']}"
    limit = median(result["limit"]["images_per_s_rounds"]) if result["limit"] else None
    draw_throughput(result["contestants"], title, file, limit)


def draw_load(result: Row, file: Path) -> None:
    """Latency against offered load of a result of `load`."""
    machine = result["machine"]
    title = f"Requests at random times, {machine['cores']} cores: {machine['cpu']}"
    offered = [row for row in result["rows"] if "offered_per_s" in row]
    draw_latency([_latency(row) for row in offered], title, file)


def _latency(row: Row) -> Row:
    times = row["latency_ms"]
    percentiles = {"p50_ms": times["p50"], "p99_ms": times["p99"], "p999_ms": times["p99_9"]}
    return {"offered_per_s": row["offered_per_s"], **percentiles}
