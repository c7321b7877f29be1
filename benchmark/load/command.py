"""Load on a running server, every answer verified: `python -m benchmark load URL --model BUNDLE --rate 50`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark.closed_loop import wrk
from benchmark.load.arrivals import poisson
from benchmark.load.ceiling import ceiling
from benchmark.load.crew import run_plan
from benchmark.load.known import Question, Rules
from benchmark.load.plan import MAX_CONNECTIONS, Plan
from benchmark.load.questions import ask_engine, choose, pictures_for
from benchmark.load.report import Row, in_words, table
from benchmark.load.tally import Tally
from benchmark.machine import describe_machine
from benchmark.server_process import ROOT
from benchmark.settings import settings
from benchmark.trivial_model import trivial_bundle, trivial_questions
from models.bundles.bundle import ModelBundle

_PICTURE = ROOT / "images" / "astronaut-portrait.jpg"


def add_command(commands: Any) -> None:
    """Adds `load` to the command line."""
    parser = commands.add_parser("load", help=__doc__)
    parser.add_argument("url", nargs="?", metavar="URL", help="of the server, such as http://127.0.0.1:8088")
    parser.add_argument("--model", type=Path, help="the bundle that the server serves, to know the answers by")
    parser.add_argument("--engine", help="of the bundle; default: its own")
    parser.add_argument("--trivial", action="store_true", help="the server is benchmark.trivial_server")
    parser.add_argument("--pictures", type=Path, help="folder of pictures; default: made for the model")
    parser.add_argument("--count", type=int, default=64, help="of different pictures; default: %(default)s")
    parser.add_argument("--rate", "--rates", dest="rates", type=_numbers, help="requests/s; several with commas")
    parser.add_argument("--percent-of-peak", action="store_true", help="the rates are percents of the peak")
    parser.add_argument(
        "--peak-connections", type=int, default=32, help="that find the peak; default: %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate; default: %(default)s")
    parser.add_argument("--requests", type=int, help="of each rate, instead of seconds")
    parser.add_argument("--processes", type=int, default=1, help="of the generator; default: %(default)s")
    parser.add_argument("--connections", type=int, default=MAX_CONNECTIONS, help="at most; default: %(default)s")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds whose times do not count")
    parser.add_argument("--timeout-s", type=float, default=30.0, help="for an answer; default: %(default)s")
    parser.add_argument("--top-k", type=int, default=5, help="scores compared per answer; default: %(default)s")
    parser.add_argument("--tolerance", type=float, default=5e-3, help="of a score; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and pictures; default: %(default)s")
    parser.add_argument(
        "--closed", type=int, metavar="CONNECTIONS", help="closed loop by wrk instead, not verified"
    )
    parser.add_argument("--picture", type=Path, default=_PICTURE, help="that wrk sends; default: 64 KB")
    parser.add_argument("--ceiling", action="store_true", help="measure the generator itself first")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run, usage_error=parser.error)


def _numbers(text: str) -> list[float]:
    numbers = [float(word) for word in text.split(",")]
    if min(numbers) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be greater than 0")
    return numbers


def run(options: argparse.Namespace) -> int:
    """Runs what is asked for, prints it, writes the JSON. Returns 1 after a wrong answer or an error."""
    _check(options)
    console = Console(width=150)
    result: Row = {"benchmark": "load", "machine": describe_machine(), "options": settings(options)}
    if options.url and options.closed:
        result["closed"] = wrk(options.url, options.picture, options.closed, options.seconds)
        console.print(in_words(result["closed"], options.closed), highlight=False)
    plan = Plan("", (_stand_in(),), _stand_in_rules())
    if options.rates:
        plan, different = _plan(options)
        result |= {"pictures": len(plan.questions), "pictures_told_apart": different}
        _print_pictures(console, len(plan.questions), different)
    if options.ceiling:
        own = ceiling(plan, options.processes, seconds=3.0)
        result["ceiling"] = own._asdict()
        console.print(
            f"the generator itself: {own.requests_per_s:,} requests/s against a server that does nothing, "
            f"{own.cpu_us} µs of CPU each",
            highlight=False,
        )
    right = True
    if options.rates:
        rows, tallies = measure(plan, options, console)
        result["rows"] = rows
        console.print(table(rows))
        right = all(each.ok + each.refused == each.sent for each in tallies)
        for example in (example for each in tallies for example in each.examples):
            print(f"wrong: {example}", file=sys.stderr)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if right else 1


def _check(options: argparse.Namespace) -> None:
    if options.rates and not options.url:
        options.usage_error("a rate needs the server's URL")
    if options.rates and bool(options.model) == options.trivial:
        options.usage_error("name the bundle that the server serves: --model BUNDLE (or --trivial)")
    if not (options.rates or options.closed or options.ceiling):
        options.usage_error("nothing to do: give --rate, --closed or --ceiling")


def _stand_in_rules() -> Rules:
    return Rules(tuple("abcdefghij"))


def _stand_in() -> Question:
    """A picture for the ceiling when no model is named: what its answer is does not matter."""
    return Question(_PICTURE.name, _PICTURE.read_bytes(), tuple(value / 55 for value in range(10, 0, -1)))


def _plan(options: argparse.Namespace) -> tuple[Plan, int]:
    """What all rates have in common, and how many of its pictures can be told apart by their answers."""
    bundle = trivial_bundle() if options.trivial else ModelBundle.load(options.model)
    if options.engine:
        bundle = bundle.with_engine(options.engine)
    rules = Rules(tuple(bundle.labels), min(options.top_k, len(bundle.labels)), options.tolerance)
    pictures = pictures_for(bundle, options.pictures)
    asked = trivial_questions(pictures) if options.trivial else ask_engine(bundle, pictures)
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


def _print_pictures(console: Console, count: int, different: int) -> None:
    console.print(f"{count} pictures, the answers of {different} are different from all others", highlight=False)
    if different < 2:
        console.print(
            "an answer to another picture would only show by its request id: this model tells none apart"
        )


def measure(plan: Plan, options: argparse.Namespace, console: Console) -> tuple[list[Row], list[Tally]]:
    """One row per rate, after the peak's if rates are percents of it."""
    rows: list[Row] = []
    tallies: list[Tally] = []
    unit = 1.0
    if options.percent_of_peak:
        closed = dataclasses.replace(plan, seconds=options.seconds, connections=options.peak_connections)
        peak = run_plan(closed, options.processes)
        unit = peak.answered_per_s / 100
        rows.append({"load": f"closed loop, {options.peak_connections} connections", **peak.to_json()})
        tallies.append(peak)
    for number, rate in enumerate(options.rates):
        due_s = poisson(
            rate * unit, options.seed * 1000 + number, seconds=options.seconds, requests=options.requests
        )
        console.print(f"{len(due_s)} requests at {rate * unit:.1f}/s", highlight=False)
        name = f"{plan.name}-{number}"
        tally = run_plan(dataclasses.replace(plan, due_s=due_s, name=name), options.processes)
        label = f"{rate:g} % of the peak" if options.percent_of_peak else "open loop"
        rows.append({"load": label, "offered_per_s": round(rate * unit, 1), **tally.to_json()})
        tallies.append(tally)
    return rows, tallies
