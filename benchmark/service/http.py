"""What the way through HTTP costs: `python -m benchmark http`, and for a client that is alone `… lone`."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console

from benchmark.harness.clients import lone_client, wrk
from benchmark.harness.cores import on_core, server_and_load_cores
from benchmark.harness.photos import PORTRAIT
from benchmark.harness.results import add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT, ServerProcess
from benchmark.harness.trivial_server import TrivialServer

GOAL_PER_S = 2500.0
GOAL_MS = 1.5  # of a lone request beside decoding and inference
_WARM_UP = 20

Row = dict[str, float]


def add_command(commands: Any) -> None:
    """Adds `http` and `lone` to the command line."""
    about = "what the way through HTTP costs, without decoding and without a model"
    parser = add_parser(commands, "http", about, run)
    parser.add_argument("--image", type=Path, default=PORTRAIT, help="default: 64 KB")
    text = "compare /classify with the Open Inference Protocol over HTTP and gRPC instead, for tensors with /serve"
    parser.add_argument("--protocols", action="store_true", help=text)
    add_option(parser, "connections", 32)
    add_option(parser, "rounds", 5)
    add_option(parser, "seconds", 4, "of each round")
    about = "what a client that is alone waits for beside decoding and inference"
    lone = add_parser(commands, "lone", about, run_lone)
    lone.add_argument("--model", type=Path, default=ROOT / "models" / "demo", help="bundle; default: the demo")
    lone.add_argument("--image", type=Path, default=PORTRAIT, help="default: 64 KB")
    add_option(lone, "requests", 200, "of a round")
    add_option(lone, "rounds", 5)


def run(options: argparse.Namespace) -> int:
    """Measures with the server on one core and wrk on another, prints, writes the JSON."""
    if options.protocols:
        from benchmark.service.protocols import run_protocols  # gRPC, which nothing else needs

        return run_protocols(options)
    console = Console(width=150)
    server_core, load_core = server_and_load_cores()
    with TrivialServer("--core", str(server_core)) as server, on_core(load_core):
        process = psutil.Process(server.process.pid)
        rounds = [_measure(process, server.url, options) for _ in range(options.rounds + 1)][1:]  # one warms up
    summary = {name: median(row[name] for row in rounds) for name in rounds[0]}
    by_round = " ".join(f"{row['requests_per_s']:.0f}" for row in rounds)
    title = "one process on one core, decode off, an engine that hashes; medians of the rounds"
    print_table(title, [{**summary, "requests/s by round": by_round}], console)
    possible = 1e6 / summary["cpu_us"]
    console.print(f"{possible:,.0f} requests per second of CPU; the goal is {GOAL_PER_S:,.0f}", highlight=False)
    if server_core == load_core:
        console.print("wrk ran on the same core: this machine gives only one")
    write_result("http", options, summary=summary, rounds=rounds, goal_per_s=GOAL_PER_S)
    return 0


def _measure(process: psutil.Process, url: str, options: argparse.Namespace) -> Row:
    """Requests/s, and the server's own CPU time per request: in all, and of it what the kernel spent."""
    before = process.cpu_times()
    load = wrk(url, options.image, options.connections, options.seconds)
    after = process.cpu_times()
    user, system = after.user - before.user, after.system - before.system
    return {
        "requests_per_s": round(load["requests"] / load["seconds"], 1),
        "cpu_us": round((user + system) / load["requests"] * 1e6, 1),
        "system_us": round(system / load["requests"] * 1e6, 1),
        "core_busy": round((user + system) / load["seconds"], 3),
        "p50_ms": load["p50"],
        "p99_ms": load["p99"],
    }


def run_lone(options: argparse.Namespace) -> int:
    """Measures rounds of one request after the other, prints them, writes the JSON."""
    with ServerProcess("--model", str(options.model)) as server:
        lone_client(server.url, options.image, _WARM_UP)
        rounds = [_round(server.url, options) for _ in range(options.rounds)]
    summary = {name: round(median(each[name] for each in rounds), 3) for name in rounds[0]}
    print_table(f"medians, ms; the goal beside decode and infer is {GOAL_MS}", [summary])
    write_result("lone", options, goal_ms=GOAL_MS, summary_ms=summary, rounds_ms=rounds)
    return 0


def _round(url: str, options: argparse.Namespace) -> dict[str, float]:
    """Medians of one round in milliseconds; `beside` is what a request took beyond its own decode and infer."""
    rows = lone_client(url, options.image, options.requests)
    columns = {name: median(row[name] for row in rows) for name in ("latency", "read", "decode", "queue", "infer")}
    return {**columns, "beside": median(row["latency"] - row["decode"] - row["infer"] for row in rows)}
