"""How late the event loop is while each engine of a bundle is saturated: `python -m benchmark lag`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmark.closed_loop import wrk
from benchmark.histogram import Histogram
from benchmark.machine import describe_machine
from benchmark.server_process import ROOT, ServerProcess
from benchmark.settings import settings
from models.bundles.bundle import ModelBundle
from models.engines import UNSERVABLE

METRIC = "snapserve_event_loop_lag_seconds"
LIMIT_S = 0.01

Row = dict[str, Any]


class Round(NamedTuple):
    """One engine under load for some seconds."""

    requests_per_s: float
    lag: Histogram


def add_command(commands: Any) -> None:
    """Adds `lag` to the command line."""
    parser = commands.add_parser("lag", help=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "store" / "resnet18", help="bundle")
    parser.add_argument("--engine", action="append", help="of the bundle; may be repeated; default: all")
    parser.add_argument("--picture", type=Path, default=ROOT / "images" / "astronaut-portrait.jpg")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=6, help="of each round; default: %(default)s")
    parser.add_argument("--warm-up", type=int, default=2, help="seconds before each round; default: %(default)s")
    parser.add_argument("--connections", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures in interleaved rounds, prints the table, writes the JSON."""
    engines = options.engine or _servable(options.model)
    rounds: dict[str, list[Round]] = {engine: [] for engine in engines}
    for _ in range(options.rounds):
        for engine in engines:
            # One server at a time: idle processes look after themselves too, and disturb the one that is measured.
            with ServerProcess("--model", str(options.model), "--engine", engine) as server:
                _measure(server.url, options, options.warm_up)
                rounds[engine].append(_measure(server.url, options, options.seconds))
    rows = [summary(engine, measured) for engine, measured in rounds.items()]
    _print(rows)
    if options.output:
        result = {"benchmark": "lag", "machine": describe_machine(), "options": settings(options), "rows": rows}
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _servable(folder: Path) -> list[str]:
    engines = ModelBundle.load(folder).spec.engines
    return [name for name, engine in engines.items() if engine.kind not in UNSERVABLE]


def _measure(url: str, options: argparse.Namespace, seconds: int) -> Round:
    before = Histogram.read(url, METRIC)
    load = wrk(url, options.picture, options.connections, seconds)
    return Round(load["requests"] / load["seconds"], Histogram.read(url, METRIC).since(before))


def summary(engine: str, rounds: Sequence[Round]) -> Row:
    """Requests per second as the median of the rounds; the lag, in upper bounds, over all their samples."""
    lag = reduce(Histogram.together, (each.lag for each in rounds))
    return {
        "engine": engine,
        "requests_per_s": round(median(each.requests_per_s for each in rounds), 1),
        "requests_per_s_rounds": [round(each.requests_per_s, 1) for each in rounds],
        "lag_p50_ms": lag.quantile(0.5) * 1000,
        "lag_p99_ms": lag.quantile(0.99) * 1000,
        "lag_p99_ms_rounds": [each.lag.quantile(0.99) * 1000 for each in rounds],
        "under_10_ms": round(lag.share_up_to(LIMIT_S), 5),
        "samples": lag.count,
    }


def _print(rows: Sequence[Row]) -> None:
    table = Table("engine", "requests/s", "lag p50 ms", "lag p99 ms", "p99 by round", "under 10 ms", "samples")
    for row in rows:
        by_round = " ".join(f"{bound:g}" for bound in row["lag_p99_ms_rounds"])
        cells = (f"{row['requests_per_s']:.1f}", f"≤ {row['lag_p50_ms']:g}", f"≤ {row['lag_p99_ms']:g}", by_round)
        table.add_row(row["engine"], *cells, f"{row['under_10_ms']:.2%}", f"{row['samples']:.0f}")
    Console(width=130).print(table)
