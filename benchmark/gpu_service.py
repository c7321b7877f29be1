"""The service on a GPU, with one worker and with more: uploads per second, and how busy the card is."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from types import TracebackType
from typing import Any

import psutil

from benchmark.load.crew import run_plan
from benchmark.load.known import Rules
from benchmark.load.plan import Plan
from benchmark.load.questions import ask_engine
from benchmark.server_process import ROOT, ServerProcess
from models.bundles.bundle import ModelBundle
from models.machine.resources import usable_cores

_PICTURE = ROOT / "images" / "astronaut-portrait.jpg"  # 64 KB, 498 x 720
_WARM_UP_S = 1.0

Row = dict[str, Any]


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._samples.seek(0)
            samples = [float(line.split(",")[0]) for line in self._samples if line[:1].isdigit()]
            self.percent = round(mean(samples), 1) if samples else None
        self._samples.close()


def measure_service(bundle: Path, workers: Sequence[int], options: argparse.Namespace, ends_at: float) -> Row:
    """Closed-loop load on servers with that many workers, one after the other; every answer is compared.

    Args:
        bundle: that is served.
        workers: numbers of processes.
        options: device, connections, seconds, rounds.
        ends_at: monotonic time after which no further server is started.
    """
    plan = _plan(bundle, options)
    rows = [_measure(bundle, count, plan, options) for count in workers if time.monotonic() < ends_at]
    return {"picture": _PICTURE.name, "connections": options.connections, "rows": rows}


def _plan(bundle: Path, options: argparse.Namespace) -> Plan:
    model = ModelBundle.load(bundle)
    rules = Rules(tuple(model.labels))
    questions = tuple(ask_engine(model, [(_PICTURE.name, _PICTURE.read_bytes())]))
    seconds = _WARM_UP_S + options.seconds
    return Plan("", questions, rules, seconds=seconds, warm_up_s=_WARM_UP_S, connections=options.connections)


def _measure(bundle: Path, workers: int, plan: Plan, options: argparse.Namespace) -> Row:
    generators = max(1, usable_cores() // 4)
    words = ("--model", str(bundle), "--device", options.device, "--workers", str(workers))
    rounds: list[Row] = []
    with ExitStack() as stack:
        server = stack.enter_context(ServerProcess(*words, "--max-batch-size", "128"))
        here = dataclasses.replace(plan, url=server.url)
        lone = run_plan(dataclasses.replace(here, connections=1, seconds=_WARM_UP_S + 1))
        for _ in range(options.rounds):
            before = _cpu_seconds(server)
            with BusyCard() as card:
                tally = run_plan(here, generators)
            rounds.append(
                {
                    **tally.to_json(),
                    "cpu_ms_per_upload": 1000 * (_cpu_seconds(server) - before) / max(1, tally.sent),
                    "gpu_busy_percent": card.percent,
                }
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


def _cpu_seconds(server: ServerProcess) -> float:
    root = psutil.Process(server.process.pid)
    times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))
