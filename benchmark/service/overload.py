"""Open loop at several times the peak, and bursts of clients that retry: `python -m benchmark overload`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from benchmark.harness.clients import scrape, total
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ServerProcess
from benchmark.harness.trivial_server import TrivialServer, trivial_bundle, trivial_scores
from benchmark.load.crew import run_plan
from benchmark.load.plan import Plan, Question, Rules, poisson
from benchmark.load.questions import ask_engine, choose, images_for
from models.bundles.bundle import ModelBundle

_IMAGES = 16


def add_command(commands: Any) -> None:
    """Adds `overload` to the command line."""
    parser = add_parser(commands, "overload", __doc__, run)
    parser.add_argument(
        "--model", type=Path, help="bundle; default: an engine that sleeps for --item-ms per image"
    )
    add_option(parser, "item-ms", 4.0, "of the engine that sleeps")
    add_option(parser, "times", 3.0, "the peak's rate that is offered")
    add_option(parser, "seconds", 60.0, "of each overload")
    add_option(parser, "peak-seconds", 8.0, "of the closed loop that finds the peak")
    add_option(parser, "connections", 32, "that find the peak")
    parser.add_argument(
        "--deadlines-ms", type=int, nargs="*", default=[1000, 3000], help="X-Request-Timeout-Ms, beside without"
    )
    parser.add_argument("--options", default="", help="of the server, in one string")
    add_option(parser, "burst-seconds", 10.0, "of the bursts with clients that retry")


def run(options: argparse.Namespace) -> int:
    """Measures, prints the tables, writes the JSON."""
    words = options.options.split()
    given = ["--model", str(options.model)] if options.model else ["--item-ms", str(options.item_ms)]
    server = ServerProcess(*given, *words) if options.model else TrivialServer(*given, *words)
    with server:
        plan = _plan(server.url, options)
        closed = dataclasses.replace(plan, seconds=options.peak_seconds, connections=options.connections)
        peak = run_plan(closed).answered_per_s
        target_s = total(scrape(server.url), "snapserve_target_latency_seconds")
        Console().print(f"peak {peak:.1f}/s, target {target_s * 1000:.0f} ms", highlight=False)
        rows = [_level(plan, server, peak, share, None, target_s, options.seconds) for share in (0.7,)]
        rows += [
            _level(plan, server, peak, options.times, deadline, target_s, options.seconds)
            for deadline in (None, *options.deadlines_ms)
        ]
        print_table("good: right answers within the target, or the deadline if that is shorter", rows)
        bursts = [_burst(plan, peak, retry, options.burst_seconds) for retry in ("obey", "1")]
    print_table(f"{options.burst_seconds:g} s at twice the peak; refused clients retry once", bursts)
    write_result("overload", options, peak_per_s=round(peak, 1), target_s=target_s, rows=rows, bursts=bursts)
    return 0


def _plan(url: str, options: argparse.Namespace) -> Plan:
    """Images and their answers."""
    if options.model:
        bundle = ModelBundle.load(options.model)
        asked = ask_engine(bundle, images_for(bundle, None))
    else:
        bundle = trivial_bundle()
        asked = (Question(str(each), os.urandom(2000), ()) for each in range(_IMAGES))
        asked = (dataclasses.replace(each, scores=trivial_scores(each.image)) for each in asked)
    rules = Rules(tuple(bundle.labels), min(5, len(bundle.labels)), 5e-3)
    questions, _ = choose(asked, _IMAGES, rules, keep_all=False)
    return Plan(url, tuple(questions), rules, timeout_s=40.0, name=os.urandom(4).hex())


def _level(
    plan: Plan,
    server: ServerProcess,
    peak: float,
    times: float,
    deadline_ms: int | None,
    target_s: float,
    seconds: float,
) -> Row:
    """One rate, and the latency that a small load has two seconds after it."""
    process = psutil.Process(server.process.pid)
    before = _memory(process)
    due_s = poisson(peak * times, 1, seconds=seconds)
    tally = run_plan(dataclasses.replace(plan, due_s=due_s, request_timeout_ms=deadline_ms))
    grown = _memory(process) / before - 1
    time.sleep(2.0)
    after = run_plan(dataclasses.replace(plan, due_s=poisson(peak * 0.1, 2, seconds=3.0), warm_up_s=0.0))
    within_s = min(target_s or np.inf, (deadline_ms or np.inf) / 1000)
    good = sum(each <= within_s for each in tally.latency_s) / max(tally.until_s - tally.from_s, 1e-9)
    return {
        "load": f"{times:g} x peak",
        "deadline ms": deadline_ms or "default",
        "offered/s": round(peak * times),
        "good/s": round(good, 1),
        "of peak": round(good / peak, 3),
        **_times("ok", tally.latency_s),
        "refused": tally.refused,
        **_times("refused", tally.refused_s),
        "no Retry-After": tally.without_retry_after,
        "wrong": tally.wrong,
        "errors": ", ".join(f"{count} {kind}" for kind, count in tally.errors.items()) or "0",
        "memory": f"{grown:+.0%}",
        "p50 ms 2 s later": _percentile(after.latency_s, 50),
        "late p99 ms": round(tally.late_p99_ms, 1),
    }


def _burst(plan: Plan, peak: float, retry: str, seconds: float) -> Row:
    due_s = poisson(peak * 2, 3, seconds=seconds)
    tally = run_plan(dataclasses.replace(plan, due_s=due_s, warm_up_s=0.0, retry=retry))
    return {
        "retry after": "as told" if retry == "obey" else f"{retry} s",
        "sent": tally.sent,
        "refused at first": tally.retried,
        "ok at first retry": round(tally.retried_ok / max(1, tally.retried), 3),
        "told s, median": _percentile(tally.retry_after_s, 50, 1.0),
        "told s, max": max(tally.retry_after_s, default=0.0),
        "errors": ", ".join(f"{count} {kind}" for kind, count in tally.errors.items()) or "0",
    }


def _memory(process: psutil.Process) -> int:
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


def _times(name: str, seconds: list[float]) -> Row:
    return {f"{name} p{percent} ms": _percentile(seconds, percent) for percent in (50, 99)}


def _percentile(values: list[float], percent: float, unit: float = 1000.0) -> float | None:
    return round(float(np.percentile(values, percent)) * unit, 1) if values else None
