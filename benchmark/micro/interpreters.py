"""A model in pure Python on threads, in interpreters, and as TorchScript: `python -m benchmark interpreters`."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.package.package_exporter import PackageExporter

from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT
from benchmark.micro.arithmetic import Arithmetic, closed_loop, steps
from models.networks.graph import jit_warnings_ignored
from runtime.interpreters import InterpreterManager

GOAL = 1.6  # times the requests per second of one replica, with two on two cores
_MOST = 2  # calling threads, and replicas

Way = tuple[str, int]  # name, calling threads
Measure = Callable[[float], float]  # seconds -> requests per second


def add_command(commands: Any) -> None:
    """Adds `interpreters` to the command line."""
    parser = add_parser(commands, "interpreters", __doc__, run)
    add_option(parser, "rounds", 5)
    add_option(parser, "seconds", 3.0, "of each turn")
    add_option(parser, "steps", 20_000, "of a request")
    parser.add_argument("--free-threaded", metavar="PYTHON", help="measures its threads beside; needs no packages")


def run(options: argparse.Namespace) -> int:
    """Measures in turn, prints the medians over the rounds, writes the JSON. 1 where the goal is missed."""
    with _ways(options) as ways:
        rounds = [_round(ways, number, options.seconds) for number in range(options.rounds + 1)][
            1:
        ]  # one warms up
    ratio = median(each["replicas", 2] / each["replicas", 1] for each in rounds)
    rows = [_row(way, rounds) for way in ways]
    print_table(f"requests per second, {options.steps} steps each; goal: 2 replicas {GOAL} x 1", rows)
    write_result("interpreters", options, rows=rows, ratio=ratio)
    return 0 if ratio >= GOAL else 1


@contextmanager
def _ways(options: argparse.Namespace) -> Iterator[dict[Way, Measure]]:
    """Each way, with 1 and 2 calling threads; as many replicas as threads are then busy."""
    model = Arithmetic(options.steps)
    with jit_warnings_ignored():
        twin = torch.jit.script(steps)
    scripted = partial(_call_twin, twin, options.steps)
    with tempfile.TemporaryDirectory() as folder, InterpreterManager(_MOST, threads=1) as manager:
        package = manager.load_package(_write(Path(folder) / "package", model))
        replicated = package.load_pickle("model", "model.pkl")
        if not model(7) == replicated(7) == scripted(7):
            raise RuntimeError("the ways do not compute the same")
        ways: dict[Way, Measure] = {}
        for threads in range(1, _MOST + 1):
            ways["threads", threads] = partial(closed_loop, model, threads)
            ways["replicas", threads] = partial(closed_loop, replicated, threads)
            ways["TorchScript", threads] = partial(closed_loop, scripted, threads)
            if options.free_threaded:
                ways["free-threaded", threads] = partial(_elsewhere, options, threads)
        yield ways


def _call_twin(twin: Callable[[int, int], int], count: int, value: int) -> int:
    return twin(value, count)


def _write(file: Path, model: Arithmetic) -> Path:
    with PackageExporter(str(file)) as exporter:
        exporter.intern("benchmark.**")
        exporter.extern("sys")
        exporter.save_pickle("model", "model.pkl", model)
    return file


def _elsewhere(options: argparse.Namespace, threads: int, seconds: float) -> float:
    """The same threads in another Python."""
    words = ["-m", "benchmark.micro.arithmetic", str(options.steps), str(threads), str(seconds)]
    done = subprocess.run([options.free_threaded, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _round(ways: dict[Way, Measure], number: int, seconds: float) -> dict[Way, float]:
    """One turn of each, in alternating order."""
    order = list(ways) if number % 2 else list(reversed(ways))
    return {way: ways[way](seconds) for way in order}


def _row(way: Way, rounds: list[dict[Way, float]]) -> Row:
    name, threads = way
    rates = [each[way] for each in rounds]
    beside = median(each[way] / each[name, 1] for each in rounds)
    row = {"way": name, "calling threads": threads, "requests per s": median(rates), "beside 1 thread": beside}
    return {**row, "least": min(rates), "most": max(rates)}
