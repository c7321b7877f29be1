"""Everything that a machine with a GPU has to tell, in one command and one JSON: `python -m benchmark gpu`."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console

from benchmark.harness.photos import PORTRAIT
from benchmark.harness.results import (
    Row,
    add_option,
    add_parser,
    as_json,
    describe_gpu,
    describe_machine,
    numbers,
    print_table,
    read_json,
    write_json,
)
from benchmark.harness.server import ProcessTree, ServerProcess, spent_between
from benchmark.load.crew import run_plan
from benchmark.load.plan import Plan, Rules
from benchmark.load.questions import ask_engine
from models.bundles.bundle import ModelBundle
from models.machine.resources import usable_cores

_ENGINES = {"cuda": "cuda-graphs-fp16", "cpu": "torchscript-fp32"}
_BATCH_SIZES = {"cuda": "16,64,128", "cpu": "8,32"}
_WARM_UP_S = 1.0


def add_command(commands: Any) -> None:
    """Adds `gpu` to the command line."""
    parser = add_parser(commands, "gpu", __doc__, run)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="cpu: to rehearse")
    parser.add_argument("--engine", default="", help="that is served; default: CUDA graphs")
    parser.add_argument("--workers", type=numbers, help="tried, with commas; default: 1, 2, 4 … cores")
    add_option(parser, "connections", 256, "of the load")
    add_option(parser, "seconds", 5.0, "of each turn")
    add_option(parser, "rounds", 3)
    add_option(parser, "limit-s", 480.0, "for all; what does not fit is left out")


def run(options: argparse.Namespace) -> int:
    """Measures engines, limit and service in turn. Returns 1 without a service, 2 without a device."""
    if options.device == "cuda" and describe_gpu() is None:
        print("benchmark gpu: torch sees no CUDA device here; --device cpu rehearses", file=sys.stderr)
        return 2
    began = time.monotonic()
    result: Row = {"benchmark": "gpu", "machine": describe_machine()}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("bundle", _bundle), ("limit", _limit), ("service", _service), ("engines", _engines)):
            left_s = options.limit_s - (time.monotonic() - began)
            result[name] = _attempt(part, options, Path(folder), left_s)
            result["seconds"] = round(time.monotonic() - began, 1)
            if options.output:
                write_json(options.output, result)  # what is known stays known, whatever comes
    if not options.output:
        print(as_json(result))
    _print(result)
    return 0 if "failed" not in result["service"] else 1


def _attempt(part: Any, options: argparse.Namespace, folder: Path, left_s: float) -> Row:
    if left_s <= 0:
        return {"failed": "no time was left"}
    try:
        done: Row = part(options, folder, left_s)
        return done
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return {"failed": (str(error).splitlines() or [type(error).__name__])[-1]}


def _command(words: Sequence[str], left_s: float, output: Path) -> Row:
    """Runs one of the project's commands, which writes JSON to `output`."""
    done = subprocess.run([sys.executable, *words], timeout=left_s, stdout=sys.stderr, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:3])} ended with exit code {done.returncode}")
    report: Row = read_json(output)
    report.pop("machine", None)
    return report


def _bundle(options: argparse.Namespace, folder: Path, left_s: float) -> Row:
    """ResNet18 with random weights, which are for speed only, on the engine that will be served."""
    engine = options.engine or _ENGINES[options.device]
    words = ["optimize_model_for_inference.py", "--weights", "none", "--accept-weak-gate", "--budget-s", "180"]
    words += ["--device", options.device, "--engine", engine, "--output", str(folder / "bundle")]
    report = _command(words, left_s, folder / "bundle" / "model.json")
    return {"engine": report["engine"], "latency_ms": report.get("latency_ms")}


def _limit(options: argparse.Namespace, folder: Path, left_s: float) -> Row:
    output, cores = folder / "limit.json", usable_cores()
    words = ["-m", "benchmark", "limit", "--model", str(folder / "bundle"), "--output", str(output)]
    words += ["--batch-sizes", _BATCH_SIZES[options.device], "--rounds", str(options.rounds), "--seconds", "3"]
    for processes in _workers(options, cores):
        words += ["--setting", f"{processes}x1x{max(1, cores // processes)}"]
    return _command(words, left_s, output)


def _engines(options: argparse.Namespace, folder: Path, left_s: float) -> Row:
    output = folder / "engines.json"
    names = "eager-fp16,torchscript-fp16,cuda-graphs-fp16" if options.device == "cuda" else "torchscript-fp32"
    words = ["-m", "benchmark", "engines", "--device", options.device, "--engines", names]
    words += ["--rounds", str(options.rounds), "--limit-s", "60", "--output", str(output)]
    return _command(words, left_s, output)


def _service(options: argparse.Namespace, folder: Path, left_s: float) -> Row:
    """Closed-loop load on servers with more and more workers; every answer is compared."""
    ends_at = time.monotonic() + left_s
    bundle = ModelBundle.load(folder / "bundle")
    questions = tuple(ask_engine(bundle, [(PORTRAIT.name, PORTRAIT.read_bytes())]))
    seconds, rules = _WARM_UP_S + options.seconds, Rules(tuple(bundle.labels))
    plan = Plan("", questions, rules, None, seconds, options.connections, _WARM_UP_S)
    workers = _workers(options, usable_cores())
    rows = [_measure(folder / "bundle", count, plan, options) for count in workers if time.monotonic() < ends_at]
    return {"image": PORTRAIT.name, "connections": options.connections, "rows": rows}


def _workers(options: argparse.Namespace, cores: int) -> Sequence[int]:
    powers = [1 << power for power in range(cores.bit_length()) if 1 << power <= cores]
    return options.workers or powers


def _measure(bundle: Path, workers: int, plan: Plan, options: argparse.Namespace) -> Row:
    words = ("--model", str(bundle), "--device", options.device, "--workers", str(workers))
    rounds: list[Row] = []
    with ServerProcess(*words, "--max-batch-size", "128") as server:
        tree, here = ProcessTree(server.process.pid), dataclasses.replace(plan, url=server.url)
        lone = run_plan(dataclasses.replace(here, connections=1, seconds=_WARM_UP_S + 1))
        for _ in range(options.rounds):
            before = tree.cpu_seconds()
            with BusyCard() as card:
                tally = run_plan(here, max(1, usable_cores() // 4))
            spent = spent_between(before, tree.cpu_seconds())
            each_ms = 1000 * spent / max(1, tally.sent)
            rounds.append(
                {**tally.to_json(), "cpu_ms_per_upload": each_ms, "gpu_busy_percent": card.percent},
            )
    return _row(workers, rounds, lone.to_json())


def _row(workers: int, rounds: Sequence[Row], lone: Row) -> Row:
    uploads = median(each["answered_per_s"] for each in rounds)
    busy = [each["gpu_busy_percent"] for each in rounds if each["gpu_busy_percent"] is not None]
    times = [each["latency_ms"] for each in rounds if each["latency_ms"]["p50"] is not None]
    return {
        "workers": workers,
        "uploads_per_s": uploads,
        "uploads_per_s_and_core": round(uploads / usable_cores(), 1),
        "p50_ms": median(each["p50"] for each in times) if times else None,
        "p99_ms": median(each["p99"] for each in times) if times else None,
        "lone_p50_ms": lone["latency_ms"]["p50"],
        "cpu_ms_per_upload": round(median(each["cpu_ms_per_upload"] for each in rounds), 3),
        "gpu_busy_percent": median(busy) if busy else None,
        "wrong": sum(each["wrong"] for each in rounds),
        "rounds": list(rounds),
    }


def _print(result: Row) -> None:
    console = Console(stderr=True, width=140)
    limit, rows = result["limit"].get("limit_per_s"), result["service"].get("rows", ())
    names = (
        "workers",
        "uploads_per_s",
        "p50_ms",
        "p99_ms",
        "lone_p50_ms",
        "cpu_ms_per_upload",
        "gpu_busy_percent",
    )
    shown = [
        {
            **{name: row.get(name) for name in names},
            "% of limit": f"{100 * row['uploads_per_s'] / limit:.0f}" if limit else None,
        }
        for row in rows
    ]
    if shown:
        print_table("by the number of workers", shown, console)
    for name, part in result.items():
        if isinstance(part, dict) and "failed" in part:
            console.print(f"{name}: {part['failed']}", markup=False, highlight=False)


class BusyCard:
    """Samples how much of the time the card works, by nvidia-smi, while the context lasts.

    Attributes:
        percent: mean of the samples; None where there is no card.
    """

    percent: float | None = None

    def __enter__(self) -> BusyCard:
        self._samples = tempfile.TemporaryFile("w+", encoding="ascii")
        program = shutil.which("nvidia-smi")
        words = [program or "", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
        self._process = subprocess.Popen(words, stdout=self._samples) if program else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._samples.seek(0)
            samples = [float(line.split(",")[0]) for line in self._samples if line[:1].isdigit()]
            self.percent = round(mean(samples), 1) if samples else None
        self._samples.close()
