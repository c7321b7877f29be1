"""Load on a running server, every answer verified: `python -m benchmark load URL --model BUNDLE --rate 50`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark.harness.photos import PORTRAIT
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.trivial_server import trivial_bundle, trivial_scores
from benchmark.load.ceiling import ceiling
from benchmark.load.crew import run_plan
from benchmark.load.plan import MAX_CONNECTIONS, Plan, Question, Rules, poisson
from benchmark.load.questions import ask_engine, choose, images_for
from benchmark.load.tally import PERCENTILES, Tally
from models.bundles.bundle import ModelBundle

_CEILING_S = 3.0
_COUNTS = ("offered_per_s", "answered_per_s", "sent", "ok", "wrong", "refused")


def add_command(commands: Any) -> None:
    """Adds `load` to the command line."""
    parser = add_parser(commands, "load", __doc__, run)
    parser.add_argument("url", nargs="?", metavar="URL", help="of the server, such as http://127.0.0.1:8088")
    parser.add_argument("--model", type=Path, help="the bundle that the server serves, to know the answers by")
    parser.add_argument("--engine", help="of the bundle; default: its own")
    parser.add_argument("--trivial", action="store_true", help="the server is benchmark.harness.trivial_server")
    parser.add_argument("--pictures", type=Path, help="folder of images; default: made for the model")
    add_option(parser, "count", 64, "of different images")
    parser.add_argument("--rate", "--rates", dest="rates", type=_rates, help="requests/s; several with commas")
    parser.add_argument("--percent-of-peak", action="store_true", help="the rates are percents of the peak")
    add_option(parser, "peak-connections", 32, "that find the peak")
    add_option(parser, "seconds", 10.0, "of each rate")
    parser.add_argument("--requests", type=int, help="of each rate, instead of seconds")
    add_option(parser, "processes", 1, "of the generator")
    add_option(parser, "connections", MAX_CONNECTIONS, "at most")
    add_option(parser, "warm-up", 1.0, "seconds whose times do not count")
    add_option(parser, "timeout-s", 30.0, "for an answer")
    add_option(parser, "top-k", 5, "scores compared per answer")
    add_option(parser, "tolerance", 5e-3, "of a score")
    add_option(parser, "seed", 0, "of arrivals and images")
    parser.add_argument("--ceiling", action="store_true", help="measure the generator itself first")
    parser.set_defaults(usage_error=parser.error)


def _rates(text: str) -> list[float]:
    rates = [float(word) for word in text.split(",")]
    if min(rates) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be greater than 0")
    return rates


def run(options: argparse.Namespace) -> int:
    """Runs what is asked for, prints it, writes the JSON. Returns 1 after a wrong answer or an error."""
    _check(options)
    console, measured, tallies = Console(width=150), Row(), list[Tally]()
    plan = _any_plan()
    if options.rates:
        plan, different = _plan(options)
        measured |= {"images": len(plan.questions), "images_told_apart": different}
        console.print(_told_apart(len(plan.questions), different), highlight=False)
    if options.ceiling:
        own = ceiling(plan, options.processes, _CEILING_S)
        measured["ceiling"] = own._asdict()
        rate = f"{own.requests_per_s:,} requests/s against a server that does nothing, {own.cpu_us} µs of CPU each"
        console.print(f"the generator itself: {rate}", highlight=False)
    if options.rates:
        measured["rows"], tallies = measure(plan, options, console)
        title = "latency in ms, from when a request was due to its answer's last byte"
        print_table(title, [_shown(row) for row in measured["rows"]], console)
        for example in (example for each in tallies for example in each.examples):
            print(f"wrong: {example}", file=sys.stderr)
    write_result("load", options, **measured)
    return 0 if all(each.ok + each.refused == each.sent for each in tallies) else 1


def _check(options: argparse.Namespace) -> None:
    if options.rates and not options.url:
        options.usage_error("a rate needs the server's URL")
    if options.rates and bool(options.model) == options.trivial:
        options.usage_error("name the bundle that the server serves: --model BUNDLE (or --trivial)")
    if not (options.rates or options.ceiling):
        options.usage_error("nothing to do: give --rate or --ceiling")


def _any_plan() -> Plan:
    """For the ceiling when no model is named: what the answer is does not matter."""
    question = Question(PORTRAIT.name, PORTRAIT.read_bytes(), tuple(value / 55 for value in range(10, 0, -1)))
    return Plan("", (question,), Rules(tuple("abcdefghij")))


def _plan(options: argparse.Namespace) -> tuple[Plan, int]:
    """The part of the plan that all rates share, and the number of its images with distinct answers."""
    bundle = trivial_bundle() if options.trivial else ModelBundle.load(options.model)
    if options.engine:
        bundle = bundle.with_engine(options.engine)
    rules = Rules(tuple(bundle.labels), min(options.top_k, len(bundle.labels)), options.tolerance)
    images = images_for(bundle, options.pictures)
    asked: Iterable[Question] = (
        (Question(name, data, trivial_scores(data)) for name, data in images)
        if options.trivial
        else ask_engine(bundle, images)
    )
    questions, different = choose(asked, options.count, rules, keep_all=options.pictures is not None)
    common = Plan(
        options.url,
        tuple(questions),
        rules,
        connections=options.connections,
        warm_up_s=options.warm_up,
        timeout_s=options.timeout_s,
        seed=options.seed,
        name=os.urandom(4).hex(),
    )
    return common, different


def measure(plan: Plan, options: argparse.Namespace, console: Console) -> tuple[list[Row], list[Tally]]:
    """One row per rate, after the peak's if rates are percents of it."""
    rows, tallies, unit = list[Row](), list[Tally](), 1.0
    if options.percent_of_peak:
        closed = dataclasses.replace(plan, seconds=options.seconds, connections=options.peak_connections)
        peak = run_plan(closed, options.processes)
        unit = peak.answered_per_s / 100
        rows.append({"load": f"closed loop, {options.peak_connections} connections", **peak.to_json()})
        tallies.append(peak)
    for number, rate in enumerate(options.rates):
        seed = options.seed * 1000 + number
        due_s = poisson(rate * unit, seed, seconds=options.seconds, requests=options.requests)
        console.print(f"{len(due_s)} requests at {rate * unit:.1f}/s", highlight=False)
        tally = run_plan(dataclasses.replace(plan, due_s=due_s, name=f"{plan.name}-{number}"), options.processes)
        label = f"{rate:g} % of the peak" if options.percent_of_peak else "open loop"
        rows.append({"load": label, "offered_per_s": round(rate * unit, 1), **tally.to_json()})
        tallies.append(tally)
    return rows, tallies


def _shown(row: Row) -> Row:
    errors = ", ".join(f"{count} {kind}" for kind, count in row["errors"].items()) or "0"
    times = {name.replace("_", "."): row["latency_ms"][name] for name in PERCENTILES}
    counts = {name.replace("_per_s", "/s"): row.get(name) for name in _COUNTS}
    return {"load": row["load"], **counts, "errors": errors, **times, "late p99": row["late_p99_ms"]}


def _told_apart(count: int, different: int) -> str:
    said = f"{count} images, the answers of {different} are different from all others"
    alone = "an answer to another image would only show by its request id: this model tells none apart"
    return said if different >= 2 else f"{said}\n{alone}"
