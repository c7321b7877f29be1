"""Fixed-timeout against while-busy, at low and at high load: `python -m benchmark policies`."""

from __future__ import annotations

import argparse
import json
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.closed_loop import wrk
from benchmark.lone_client import lone_client
from benchmark.machine import describe_machine
from benchmark.server_process import ROOT, ServerProcess
from benchmark.settings import settings

TIMEOUTS_MS = (0.0, 2.0, 5.0, 10.0, 20.0)  # 0 is while-busy

Row = dict[str, Any]


def add_command(commands: Any) -> None:
    """Adds `policies` to the command line."""
    parser = commands.add_parser("policies", help=__doc__)
    parser.add_argument("--model", default=str(ROOT / "models" / "demo"), help="bundle; default: the demo")
    parser.add_argument("--picture", type=Path, default=ROOT / "images" / "cat.jpg")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=4, help="of each high load; default: %(default)s")
    parser.add_argument("--requests", type=int, default=60, help="of each low load; default: %(default)s")
    parser.add_argument("--connections", type=int, default=64, help="of the high load; default: %(default)s")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures, prints the table, writes the JSON."""
    with ExitStack() as stack:
        urls = {
            timeout: stack.enter_context(
                ServerProcess("--model", options.model, "--batch-timeout-ms", str(timeout))
            ).url
            for timeout in TIMEOUTS_MS
        }
        rounds = [
            _measure(timeout, url, options)
            for _ in range(options.rounds + 1)  # interleaved; the first round warms up
            for timeout, url in urls.items()
        ][len(urls) :]
    rows = [_summary([row for row in rounds if row["batch_timeout_ms"] == timeout]) for timeout in TIMEOUTS_MS]
    _print(rows)
    if options.output:
        result = {
            "benchmark": "policies",
            "machine": describe_machine(),
            "options": settings(options),
            "rows": rows,
        }
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(timeout: float, url: str, options: argparse.Namespace) -> Row:
    low = lone_client(url, options.picture, options.requests)
    pictures, batches = _batch_totals(url)
    high = wrk(url, options.picture, options.connections, options.seconds)
    pictures_after, batches_after = _batch_totals(url)
    return {
        "batch_timeout_ms": timeout,
        "low_p50_ms": median(row["latency"] for row in low),
        "low_queue_p50_ms": median(row["queue"] for row in low),
        "low_queue_max_ms": max(row["queue"] for row in low),
        "high_requests_per_s": high["requests"] / high["seconds"],
        "high_p50_ms": high["p50"],
        "high_p99_ms": high["p99"],
        "high_mean_batch": (pictures_after - pictures) / (batches_after - batches),
    }


def _batch_totals(url: str) -> tuple[float, float]:
    """Pictures and batches so far, over all models, from /metrics."""
    with urllib.request.urlopen(url + "/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()

    def total(name: str) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))

    return total("snapserve_batch_size_sum"), total("snapserve_batch_size_count")


def _summary(rows: list[Row]) -> Row:
    """The median of every column over the rounds, and the spread of the throughput."""
    columns = {name: round(median(row[name] for row in rows), 2) for name in rows[0]}
    throughput = [round(row["high_requests_per_s"], 1) for row in rows]
    return {**columns, "high_requests_per_s_rounds": throughput}


def _print(rows: list[Row]) -> None:
    table = Table(title="medians over the rounds; low: a lone client, high: wrk")
    names = [name for name in rows[0] if not name.endswith("_rounds")]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{row[name]:.2f}" for name in names))
    Console(width=160).print(table)
