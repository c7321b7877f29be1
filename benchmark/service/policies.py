"""Fixed-timeout against while-busy, at low and at high load: `python -m benchmark policies`."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.harness.clients import lone_client, scrape, total, wrk
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT, ServerProcess

TIMEOUTS_MS = (0.0, 2.0, 5.0, 10.0, 20.0)  # 0 is while-busy


def add_command(commands: Any) -> None:
    """Adds `policies` to the command line."""
    parser = add_parser(commands, "policies", __doc__, run)
    parser.add_argument("--model", default=str(ROOT / "models" / "demo"), help="bundle; default: the demo")
    parser.add_argument("--image", type=Path, default=ROOT / "images" / "cat.jpg", help="default: a cat")
    add_option(parser, "rounds", 5)
    add_option(parser, "seconds", 4, "of each high load")
    add_option(parser, "requests", 60, "of each low load")
    add_option(parser, "connections", 64, "of the high load")


def run(options: argparse.Namespace) -> int:
    """Measures, prints the table, writes the JSON."""
    with ExitStack() as stack:
        urls = {timeout: stack.enter_context(_server(options.model, timeout)).url for timeout in TIMEOUTS_MS}
        rounds = [
            _measure(timeout, url, options)
            for _ in range(options.rounds + 1)  # interleaved; the first round warms up
            for timeout, url in urls.items()
        ][len(urls) :]
    rows = [_summary([row for row in rounds if row["batch_timeout_ms"] == timeout]) for timeout in TIMEOUTS_MS]
    shown = [{name: value for name, value in row.items() if not name.endswith("_rounds")} for row in rows]
    print_table("medians over the rounds; low: a lone client, high: wrk", shown)
    write_result("policies", options, rows=rows)
    return 0


def _server(model: str, timeout_ms: float) -> ServerProcess:
    return ServerProcess("--model", model, "--batch-timeout-ms", str(timeout_ms))


def _measure(timeout: float, url: str, options: argparse.Namespace) -> Row:
    low = lone_client(url, options.image, options.requests)
    images, batches = _batch_totals(url)
    high = wrk(url, options.image, options.connections, options.seconds)
    images_after, batches_after = _batch_totals(url)
    return {
        "batch_timeout_ms": timeout,
        "low_p50_ms": median(row["latency"] for row in low),
        "low_queue_p50_ms": median(row["queue"] for row in low),
        "low_queue_max_ms": max(row["queue"] for row in low),
        "high_requests_per_s": high["requests"] / high["seconds"],
        "high_p50_ms": high["p50"],
        "high_p99_ms": high["p99"],
        "high_mean_batch": (images_after - images) / (batches_after - batches),
    }


def _batch_totals(url: str) -> tuple[float, float]:
    """Images and batches so far, over all models."""
    samples = scrape(url)
    return total(samples, "snapserve_batch_size_sum"), total(samples, "snapserve_batch_size_count")


def _summary(rows: list[Row]) -> Row:
    """The median of every column over the rounds, and the spread of the throughput."""
    columns = {name: round(median(row[name] for row in rows), 2) for name in rows[0]}
    throughput = [round(row["high_requests_per_s"], 1) for row in rows]
    return {**columns, "high_requests_per_s_rounds": throughput}
