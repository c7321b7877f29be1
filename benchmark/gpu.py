"""Everything that a machine with a GPU has to tell, in one command and one JSON: `python -m benchmark gpu`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.card import describe_gpu
from benchmark.gpu_service import measure_service
from benchmark.machine import describe_machine
from models.machine.resources import usable_cores

_ENGINES = {"cuda": "cuda-graphs-fp16", "cpu": "torchscript-fp32"}
_BATCH_SIZES = {"cuda": "16,64,128", "cpu": "8,32"}

Row = dict[str, Any]


def add_command(commands: Any) -> None:
    """Adds `gpu` to the command line."""
    parser = commands.add_parser("gpu", help=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="cpu: to rehearse")
    parser.add_argument("--engine", default="", help="that is served; default: CUDA graphs")
    parser.add_argument("--workers", type=_numbers, help="tried, with commas; default: 1, 2, 4 … cores")
    parser.add_argument("--connections", type=int, default=256, help="of the load; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--limit-s", type=float, default=480.0, help="for all; what does not fit is left out")
    parser.add_argument("--output", type=Path, help="JSON file; default: standard output")
    parser.set_defaults(run=run)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def run(options: argparse.Namespace) -> int:
    """Measures engines, limit and service in turn. Returns 1 without a service, 2 without a device."""
    if options.device == "cuda" and describe_gpu() is None:
        print("benchmark gpu: torch sees no CUDA device here; --device cpu rehearses", file=sys.stderr)
        return 2
    began = time.monotonic()
    result: Row = {"benchmark": "gpu", "machine": {**describe_machine(), "gpu": describe_gpu()}}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("bundle", _bundle), ("limit", _limit), ("service", _service), ("engines", _engines)):
            left_s = options.limit_s - (time.monotonic() - began)
            result[name] = _attempt(part, options, Path(folder), left_s)
            result["seconds"] = round(time.monotonic() - began, 1)
            _write(result, options.output)  # what is known stays known, whatever comes
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
    report: Row = json.loads(output.read_text(encoding="utf-8"))
    report.pop("machine", None)
    return report


def _engine_of(options: argparse.Namespace) -> str:
    return options.engine or _ENGINES[options.device]


def _bundle(options: argparse.Namespace, folder: Path, left_s: float) -> Row:
    """ResNet18 with random weights, which are for speed only, on the engine that will be served."""
    words = ["optimize_model_for_inference.py", "--weights", "none", "--accept-weak-gate", "--budget-s", "180"]
    words += ["--device", options.device, "--engine", _engine_of(options), "--output", str(folder / "bundle")]
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
    ends_at = time.monotonic() + left_s
    return measure_service(folder / "bundle", _workers(options, usable_cores()), options, ends_at)


def _workers(options: argparse.Namespace, cores: int) -> list[int]:
    powers = [1 << power for power in range(cores.bit_length()) if 1 << power <= cores]
    return options.workers or powers


def _write(result: Row, output: Path | None) -> None:
    text = json.dumps(result, indent=1) + "\n"
    if output:
        output.write_text(text, encoding="utf-8")
    elif "engines" in result:
        print(text, end="")


def _print(result: Row) -> None:
    console = Console(stderr=True, width=140)
    limit = result["limit"].get("limit_per_s")
    table = Table(
        "workers", "uploads/s", "per core", "% of limit", "p50 ms", "p99 ms", "CPU ms each", "GPU busy %"
    )
    for row in result["service"].get("rows", ()):
        share = f"{100 * row['uploads_per_s'] / limit:.0f}" if limit else "-"
        cells = (row[name] for name in ("p50_ms", "p99_ms", "cpu_ms_per_upload", "gpu_busy_percent"))
        rates = (f"{row['uploads_per_s']:.0f}", f"{row['uploads_per_s_and_core']:.0f}", share)
        table.add_row(str(row["workers"]), *rates, *("-" if cell is None else f"{cell:.2f}" for cell in cells))
    console.print(table)
    for name, part in result.items():
        if isinstance(part, dict) and "failed" in part:
            console.print(f"{name}: {part['failed']}", markup=False, highlight=False)
