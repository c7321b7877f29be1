"""An engine in a process beside the same engine on a thread: `python -m benchmark runners`."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.harness.clients import lone_client, wrk
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT, ProcessTree, ServerProcess, spent_between

RUNNERS = ("thread", "process")
GOAL_RATIO = 0.95  # requests/s
GOAL_MS = 0.5  # more for a lone client


def add_command(commands: Any) -> None:
    """Adds `runners` to the command line."""
    parser = add_parser(commands, "runners", __doc__, run)
    parser.add_argument("--model", default=str(ROOT / "models" / "demo"), help="bundle; default: the demo")
    parser.add_argument("--image", type=Path, default=ROOT / "images" / "cat.jpg", help="default: a cat")
    parser.add_argument("--workers", default="auto")
    add_option(parser, "rounds", 6)
    add_option(parser, "seconds", 4, "of each closed loop")
    add_option(parser, "requests", 60, "of each lone client")
    add_option(parser, "connections", 32, "of the closed loop")


def run(options: argparse.Namespace) -> int:
    """Measures in interleaved rounds, prints the table, writes the JSON. 1 where a goal is missed."""
    with ExitStack() as stack:
        servers = {runner: stack.enter_context(_server(options, runner)) for runner in RUNNERS}
        rounds = [_round(servers, number, options) for number in range(options.rounds + 1)][1:]  # one warms up
    rows = [
        {"runner": runner, **{name: median(each[runner][name] for each in rounds) for name in rounds[0][runner]}}
        for runner in RUNNERS
    ]
    ratios = [each["process"]["requests_per_s"] / each["thread"]["requests_per_s"] for each in rounds]
    more_ms = [each["process"]["lone_ms"] - each["thread"]["lone_ms"] for each in rounds]
    verdict = {"requests_per_s_ratio": median(ratios), "lone_more_ms": median(more_ms)}
    print_table("medians over the rounds", rows)
    print_table("process beside thread, medians of the rounds' differences", [verdict])
    write_result("runners", options, rows=rows, verdict=verdict, ratios=ratios, lone_more_ms=more_ms)
    return 0 if verdict["requests_per_s_ratio"] >= GOAL_RATIO and verdict["lone_more_ms"] <= GOAL_MS else 1


def _server(options: argparse.Namespace, runner: str) -> ServerProcess:
    return ServerProcess("--model", options.model, "--runner", runner, "--workers", options.workers)


def _round(servers: dict[str, ServerProcess], number: int, options: argparse.Namespace) -> dict[str, Row]:
    """One turn of each, in alternating order."""
    order = RUNNERS if number % 2 else RUNNERS[::-1]
    return {runner: _measure(servers[runner], options) for runner in order}


def _measure(server: ServerProcess, options: argparse.Namespace) -> Row:
    lone = lone_client(server.url, options.image, options.requests)
    tree = ProcessTree(server.process.pid)
    before = tree.cpu_seconds()
    load = wrk(server.url, options.image, options.connections, options.seconds)
    spent = spent_between(before, tree.cpu_seconds())
    return {
        "requests_per_s": load["requests"] / load["seconds"],
        "cpu_ms_per_request": spent / load["requests"] * 1000,
        "p50_ms": load["p50"],
        "p99_ms": load["p99"],
        "lone_ms": median(row["latency"] for row in lone),
        "lone_infer_ms": median(row["infer"] for row in lone),
        "pss_mb": tree.memory_mb("pss"),
    }
