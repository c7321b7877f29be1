"""SnapServe and its peers under the same load, on the same cores: `python -m benchmark serve-compare`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmark.compare.answer import difference, reference_answers
from benchmark.compare.bundle import BUNDLE, benchmark_bundle
from benchmark.compare.contestant import relative
from benchmark.compare.contestants import all_contestants, chosen, engine_name, shared_engine
from benchmark.compare.drawings import draw_compare
from benchmark.compare.limits import LIMIT, best_limit, start_limits
from benchmark.compare.match import Match
from benchmark.compare.pictures import photos
from benchmark.compare.report import percent_of_limit, print_report, ratios, summary
from benchmark.compare.requirements import tell_missing
from benchmark.compare.rounds import Load
from benchmark.machine import commit, describe_machine
from benchmark.peers.environment import Environment
from benchmark.server_process import ROOT
from models.bundles.bundle import ModelBundle
from models.errors import BundleError

Row = dict[str, Any]


def add_command(commands: Any) -> None:
    """Adds `serve-compare` to the command line."""
    parser = commands.add_parser("serve-compare", help=__doc__)
    parser.add_argument("--model", type=Path, help="bundle; default: models/store/benchmark, made if missing")
    parser.add_argument("--contestants", metavar="A,B,C", help="default: all, and the limit")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="'NAME=BASE OPTIONS'",
        help="a further contestant: another one with options added, variables like OMP_NUM_THREADS=2, "
        "or CHECKOUT=FOLDER, another version of the project",
    )
    parser.add_argument(
        "--shared",
        metavar="ENGINE",
        help="TorchScript engine of the bundle that SnapServe and the peers share; default: the fastest",
    )
    parser.add_argument("--picture", type=Path, action="append", help="may be repeated; default: four photos")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=8, help="of each turn; default: %(default)s")
    parser.add_argument("--warm-up", type=int, default=1, help="seconds before each turn; default: %(default)s")
    parser.add_argument("--connections", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--cores", type=int, help="for servers and load together; default: all there are")
    parser.add_argument("--tolerance", type=float, default=0.01, help="of scores; default: %(default)s")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.add_argument("--plot", type=Path, help="SVG file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures in interleaved rounds, prints the tables, writes JSON and plot. 1 if an answer was wrong."""
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])  # servers and wrk inherit it
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leaves no server behind
    try:
        result = _measure(options)
    except (BundleError, ValueError, RuntimeError) as error:
        print(f"serve-compare: {error}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, previous)
    print_report(result)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.plot and result["contestants"]:
        draw_compare(result, options.plot)
    return 1 if not result["contestants"] or any(row["wrong"] for row in result["contestants"]) else 0


def _measure(options: argparse.Namespace) -> Row:
    listed = options.contestants.split(",") if options.contestants else []
    names = [name for name in listed if name != LIMIT]
    expected = chosen(all_contestants(options.model or BUNDLE), names, options.variant)  # wrong names end it here
    tell_missing(expected, print)
    folder = (options.model or benchmark_bundle()).resolve()
    bundle = ModelBundle.load(folder)
    shared = shared_engine(bundle, options.shared)
    print(f"serve-compare: shared with the peers: {shared.name}; SnapServe's own choice: {engine_name(bundle)}")
    contestants = chosen(all_contestants(folder, shared), names, options.variant)
    pictures = [picture.resolve() for picture in options.picture or photos()]
    load = Load(options.connections, options.seconds, options.warm_up, options.tolerance)
    reference = reference_answers(folder, pictures)
    with ExitStack() as stack:
        limits = start_limits(stack, folder, pictures, listed)
        match = stack.enter_context(Match(contestants, pictures))
        match.play(options.rounds, load, {name: limit.measure for name, limit in limits.items()})
    limit = best_limit(limits, match.limits)
    return {
        "benchmark": "serve-compare",
        "machine": describe_machine(),
        "options": {name: _shown(value) for name, value in vars(options).items() if name != "run"},
        "pictures": [{"file": relative(str(each)), "bytes": each.stat().st_size} for each in pictures],
        "shared": shared.name,
        "model": relative(str(folder)),
        "contestants": [_row(match, name, reference, limit) for name in match.servers],
        "ratios": ratios(match.turns),
        "limit": limit,
        "missing": match.missing,
    }


def _row(match: Match, name: str, reference: list[list[float]], limit: Row | None) -> Row:
    server, turns = match.servers[name], match.turns[name]
    contestant = server.contestant
    row: Row = {
        "name": name,
        "command": contestant.shown(),
        **({} if contestant.checkout == ROOT else {"commit": commit(contestant.checkout)}),
        "packages": Environment(contestant.environment).versions() if contestant.environment else {},
        "reference": difference(match.answers[name], reference),
        "idle_cpu_percent": match.idle_percent[name],
        "start_s": round(server.start_s, 1),
        **summary(turns),
    }
    if limit:
        row["percent_of_limit"] = percent_of_limit(turns, limit["images_per_s_rounds"])
    return row


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return relative(str(value.resolve())) if isinstance(value, Path) else value
