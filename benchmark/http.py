"""What the way through HTTP costs, without decoding and without a model: `python -m benchmark http`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmark.closed_loop import wrk
from benchmark.machine import describe_machine
from benchmark.profile import Profile, profile
from benchmark.server_process import ROOT
from benchmark.settings import settings
from benchmark.trivial_server import TrivialServer

GOAL_PER_S = 2500.0

Row = dict[str, float]


def add_command(commands: Any) -> None:
    """Adds `http` to the command line."""
    parser = commands.add_parser("http", help=__doc__)
    picture = ROOT / "images" / "astronaut-portrait.jpg"
    parser.add_argument("--picture", type=Path, default=picture, help="default: 64 KB")
    parser.add_argument("--connections", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=4, help="of each round; default: %(default)s")
    parser.add_argument("--profile", action="store_true", help="then also show where the time goes, by py-spy")
    parser.add_argument("--rows", type=int, default=30, help="of the profile; default: %(default)s")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures with the server on one core and wrk on another, prints, writes the JSON."""
    console = Console(width=150)
    server_core, load_core = _cores()
    result: dict[str, Any] = {"benchmark": "http", "machine": describe_machine(), "options": settings(options)}
    with TrivialServer("--core", str(server_core)) as server, _on_core(load_core):
        process = psutil.Process(server.process.pid)
        rounds = [_measure(process, server.url, options) for _ in range(options.rounds + 1)][1:]  # one warms up
        summary = {name: median(row[name] for row in rounds) for name in rounds[0]}
        result |= {"summary": summary, "rounds": rounds, "goal_per_s": GOAL_PER_S}
        _print(console, summary, rounds, shared=server_core == load_core)
        if options.profile:
            watched = _profile(server.process.pid, server.url, options)
            result["profile"] = _rows(watched, summary["cpu_us"], options.rows)
            _print_profile(console, result["profile"])
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _cores() -> tuple[int, int]:
    """The server's core and wrk's; the same where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """Programs that are started within run on that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _measure(process: psutil.Process, url: str, options: argparse.Namespace) -> Row:
    """Requests/s, and the server's own CPU time per request: in all, and of it what the kernel spent."""
    before = process.cpu_times()
    load = wrk(url, options.picture, options.connections, options.seconds)
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


def _print(console: Console, summary: Row, rounds: list[Row], shared: bool) -> None:
    table = Table(title="one process on one core, decode off, an engine that hashes; medians of the rounds")
    for name in (*summary, "requests/s by round"):
        table.add_column(name.replace("_per_s", "/s").replace("_us", " µs").replace("_", " "), justify="right")
    by_round = " ".join(f"{row['requests_per_s']:.0f}" for row in rounds)
    table.add_row(*(f"{value:g}" for value in summary.values()), by_round)
    console.print(table)
    possible = 1e6 / summary["cpu_us"]
    console.print(f"{possible:,.0f} requests per second of CPU; the goal is {GOAL_PER_S:,.0f}", highlight=False)
    if shared:
        console.print("wrk ran on the same core: this machine gives only one")


def _profile(process_id: int, url: str, options: argparse.Namespace) -> Profile:
    with ThreadPoolExecutor(1) as executor:
        watched: Future[Profile] = executor.submit(profile, process_id, options.seconds)
        while not watched.done():
            wrk(url, options.picture, options.connections, options.seconds)
        return watched.result()


def _rows(watched: Profile, cpu_us: float, count: int) -> list[dict[str, Any]]:
    """Functions by the CPU time of a request that was spent in them, in microseconds."""
    unit = cpu_us / max(1, watched.samples)
    return [
        {
            "function": name,
            "self_us": round(samples * unit, 1),
            "whole_us": round(watched.whole_samples[name] * unit, 1),
        }
        for name, samples in watched.self_samples.most_common(count)
    ]


def _print_profile(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table("function", title="µs of CPU per request, in it and with what it calls")
    table.add_column("self", justify="right")
    table.add_column("whole", justify="right")
    for row in rows:
        table.add_row(row["function"], f"{row['self_us']:.1f}", f"{row['whole_us']:.1f}")
    console.print(table, highlight=False)
