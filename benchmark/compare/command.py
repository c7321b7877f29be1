"""SnapServe and its peers under the same load, on the same cores: `python -m benchmark serve-compare`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.compare.bundle import BUNDLE, benchmark_bundle, engine_name, reference_scores, shared_engine
from benchmark.compare.candidates import Candidate, all_candidates, chosen, relative
from benchmark.compare.match import Load, Match
from benchmark.compare.plots import draw_compare
from benchmark.compare.report import difference, percent_of_limit, print_report, ratios, summary
from benchmark.harness.photos import photos_alike
from benchmark.harness.results import Row, add_option, add_parser, commit, describe, write_json
from benchmark.harness.server import ROOT
from benchmark.peers.environment import Environment, PeerMissing
from benchmark.pipeline.limit import best_limit, start_limits
from models.bundles.bundle import ModelBundle
from models.errors import BundleError

_LIMIT = "limit"  # its name among the candidates
_OPENVINO = ("openvino", "nncf")


def add_command(commands: Any) -> None:
    """Adds `serve-compare` to the command line."""
    parser = add_parser(commands, "serve-compare", __doc__, run)
    parser.add_argument("--model", type=Path, help="bundle; default: models/store/benchmark, made if missing")
    parser.add_argument("--contestants", metavar="A,B,C", help="default: all, and the limit")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="'NAME=BASE OPTIONS'",
        help="a further candidate: another one with options added, variables like OMP_NUM_THREADS=2, "
        "or CHECKOUT=FOLDER, another version of the project",
    )
    parser.add_argument(
        "--shared",
        metavar="ENGINE",
        help="TorchScript engine of the bundle that SnapServe and the peers share; default: the fastest",
    )
    parser.add_argument("--image", type=Path, action="append", help="may be repeated; default: four photos")
    add_option(parser, "rounds", 5)
    add_option(parser, "seconds", 8, "of each turn")
    add_option(parser, "warm-up", 1, "seconds before each turn")
    add_option(parser, "connections", 32)
    parser.add_argument("--cores", type=int, help="for servers and load together; default: all there are")
    add_option(parser, "tolerance", 0.01, "of scores")
    parser.add_argument("--plot", type=Path, help="SVG file")


def run(options: argparse.Namespace) -> int:
    """Measures in interleaved rounds, prints the tables, writes JSON and plot. 1 if an answer was wrong."""
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])  # servers and wrk inherit it
    try:
        result = _measure(options)
    except (BundleError, ValueError, RuntimeError) as error:
        print(f"serve-compare: {error}", file=sys.stderr)
        return 2
    print_report(result)
    if options.output:
        write_json(options.output, result)
    if options.plot and result["contestants"]:
        draw_compare(result, options.plot)
    return 1 if not result["contestants"] or any(row["wrong"] for row in result["contestants"]) else 0


def _measure(options: argparse.Namespace) -> Row:
    listed = options.contestants.split(",") if options.contestants else []
    names = [name for name in listed if name != _LIMIT]
    expected = chosen(all_candidates(options.model or BUNDLE), names, options.variant)  # wrong names end it here
    tell_missing(expected, print)
    folder = (options.model or benchmark_bundle()).resolve()
    bundle = ModelBundle.load(folder)
    shared = shared_engine(bundle, options.shared)
    print(f"serve-compare: shared with the peers: {shared.name}; SnapServe's own choice: {engine_name(bundle)}")
    candidates = chosen(all_candidates(folder, shared), names, options.variant)
    images = [image.resolve() for image in options.image or photos_alike()]
    load = Load(options.connections, options.seconds, options.warm_up, options.tolerance)
    reference = reference_scores(folder, images)
    with ExitStack() as stack:
        limits = start_limits(stack, folder, images) if not listed or _LIMIT in listed else {}
        match = stack.enter_context(Match(candidates, images))
        match.play(options.rounds, load, {name: limit.measure for name, limit in limits.items()})
    limit = best_limit(limits, match.limits)
    running = [each for each in candidates if each.name in match.servers]
    return describe(
        "serve-compare",
        options,
        images=[{"file": relative(str(each)), "bytes": each.stat().st_size} for each in images],
        shared=shared.name,
        model=relative(str(folder)),
        contestants=[_row(match, each, reference, limit) for each in running],
        ratios=ratios(match.turns),
        limit=limit,
        missing=match.missing,
    )


def _row(match: Match, candidate: Candidate, reference: list[list[float]], limit: Row | None) -> Row:
    name, turns = candidate.name, match.turns[candidate.name]
    row: Row = {
        "name": name,
        "command": candidate.shown(),
        **({} if candidate.checkout == ROOT else {"commit": commit(candidate.checkout)}),
        "packages": Environment(candidate.environment).versions() if candidate.environment else {},
        "reference": difference(match.answers[name], reference),
        "idle_cpu_percent": match.idle_percent[name],
        "start_s": round(match.servers[name].start_s, 1),
        **summary(turns),
    }
    if limit:
        row["percent_of_limit"] = percent_of_limit(turns, limit["images_per_s_rounds"])
    return row


def tell_missing(candidates: Sequence[Candidate], say: Callable[[str], None]) -> None:
    """Installs the peers' environments, and says what is missing and what that means.

    Raises:
        RuntimeError: without it nothing can be measured.
    """
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk, which makes the load, is not installed; scripts/system-packages.sh installs it")
    for name in dict.fromkeys(each.environment for each in candidates if each.environment):
        environment = Environment(name)
        if not environment.installed:
            say(f"serve-compare: installing {name} ...")
        try:
            environment.install()
        except PeerMissing as error:
            without = ", ".join(each.name for each in candidates if each.environment == name)
            say(f"serve-compare: missing: {error}; so without {without}")
    absent = [package for package in _OPENVINO if find_spec(package) is None]
    if absent:
        say(f"serve-compare: missing: {', '.join(absent)}; so SnapServe chooses among torch's engines")
