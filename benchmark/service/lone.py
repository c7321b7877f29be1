"""What a client that is alone waits for beside decoding and inference: `python -m benchmark lone`."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.harness.clients import lone_client
from benchmark.harness.photos import PORTRAIT
from benchmark.harness.results import add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT, ServerProcess

GOAL_MS = 1.5
_WARM_UP = 20


def add_command(commands: Any) -> None:
    """Adds `lone` to the command line."""
    parser = add_parser(commands, "lone", __doc__, run)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "demo", help="bundle; default: the demo")
    parser.add_argument("--picture", type=Path, default=PORTRAIT, help="default: 64 KB")
    add_option(parser, "requests", 200, "of a round")
    add_option(parser, "rounds", 5)


def run(options: argparse.Namespace) -> int:
    """Measures rounds of one request after the other, prints them, writes the JSON."""
    with ServerProcess("--model", str(options.model)) as server:
        lone_client(server.url, options.picture, _WARM_UP)
        rounds = [_round(server.url, options) for _ in range(options.rounds)]
    summary = {name: round(median(each[name] for each in rounds), 3) for name in rounds[0]}
    print_table(f"medians, ms; the goal beside decode and infer is {GOAL_MS}", [summary])
    write_result("lone", options, goal_ms=GOAL_MS, summary_ms=summary, rounds_ms=rounds)
    return 0


def _round(url: str, options: argparse.Namespace) -> dict[str, float]:
    """Medians of one round in milliseconds; `beside` is what a request took beyond its own decode and infer."""
    rows = lone_client(url, options.picture, options.requests)
    columns = {name: median(row[name] for row in rows) for name in ("latency", "read", "decode", "queue", "infer")}
    return {**columns, "beside": median(row["latency"] - row["decode"] - row["infer"] for row in rows)}
