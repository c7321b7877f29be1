"""What a client that is alone waits for beside decoding and inference: `python -m benchmark lone`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.lone_client import lone_client
from benchmark.machine import describe_machine
from benchmark.server_process import ROOT, ServerProcess
from benchmark.settings import settings

GOAL_MS = 1.5
_WARM_UP = 20


def add_command(commands: Any) -> None:
    """Adds `lone` to the command line."""
    parser = commands.add_parser("lone", help=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "demo", help="bundle; default: the demo")
    parser.add_argument("--picture", type=Path, default=ROOT / "images" / "astronaut-portrait.jpg")
    parser.add_argument("--requests", type=int, default=200, help="of a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures rounds of one request after the other, prints them, writes the JSON."""
    with ServerProcess("--model", str(options.model)) as server:
        lone_client(server.url, options.picture, _WARM_UP)
        rounds = [_round(server.url, options) for _ in range(options.rounds)]
    summary = {name: round(median(each[name] for each in rounds), 3) for name in rounds[0]}
    table = Table(title=f"medians, ms; beside decode and infer at most {GOAL_MS} are the goal")
    for name in summary:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*(f"{value:.2f}" for value in summary.values()))
    Console(width=120).print(table)
    if options.output:
        result: dict[str, Any] = {"benchmark": "lone", "machine": describe_machine(), "options": settings(options)}
        result |= {"goal_ms": GOAL_MS, "summary_ms": summary, "rounds_ms": rounds}
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _round(url: str, options: argparse.Namespace) -> dict[str, float]:
    """Medians of one round in milliseconds; `beside` is what a request took beyond its own decode and infer."""
    rows = lone_client(url, options.picture, options.requests)
    columns = {name: median(row[name] for row in rows) for name in ("latency", "read", "decode", "queue", "infer")}
    return {**columns, "beside": median(row["latency"] - row["decode"] - row["infer"] for row in rows)}
