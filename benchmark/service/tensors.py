"""Tensors as JSON through torch-serving's API, and what the JSON costs: `python -m benchmark tensors`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmark.harness.clients import body_wrk, lone_posts
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ProcessTree, spent_between
from benchmark.harness.serving import TorchServingServer, body_of, serve_path, values_of
from benchmark.harness.store import Means, Sum, write_program
from runtime.values import Nested
from server.dialects.torch_serving.envelope import good
from server.dialects.torch_serving.handlers import parsed
from server.dialects.torch_serving.values import json_of

RUNNERS = ("thread", "process")
_ADDED = 1.0


class Load(NamedTuple):
    """A request and its model.

    Attributes:
        module: the model.
        tensor: that is sent.
        answer: that has to come back.
    """

    module: nn.Module
    tensor: NDArray[np.float32]
    answer: NDArray[np.float32]


def _loads() -> dict[str, Load]:
    """By what is sent and returned."""
    rng = np.random.default_rng(0)
    few, image = (rng.random(shape, np.float32) for shape in ((10,), (3, 224, 224)))
    return {
        "10 to 10": Load(Sum(_ADDED), few, few + np.float32(_ADDED)),
        "3x224x224 to 3": Load(Means(), image, image.mean(axis=(1, 2))),
        "3x224x224 to 3x224x224": Load(Sum(_ADDED), image, image + np.float32(_ADDED)),
    }


def add_command(commands: Any) -> None:
    """Adds `tensors` to the command line."""
    parser = add_parser(commands, "tensors", __doc__, run)
    parser.add_argument("--runner", choices=RUNNERS, action="append", help="default: both")
    parser.add_argument("--workers", default="1")
    add_option(parser, "rounds", 5)
    add_option(parser, "seconds", 4, "of each closed loop")
    add_option(parser, "connections", 16, "of the closed loop")
    add_option(parser, "requests", 50, "of each lone client, and of the JSON alone")


def run(options: argparse.Namespace) -> int:
    """Measures in interleaved rounds, prints the medians, writes the JSON."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        loads = dict(zip(("few.pt", "means.pt", "sum.pt"), _loads().items(), strict=True))
        for file, (_, load) in loads.items():
            write_program(load.module, Path(folder, file))
        for runner in options.runner or RUNNERS:
            words = "--workers", options.workers, "--runner", runner, "--target-latency-ms", "off"
            with TorchServingServer(Path(folder), *words) as server:
                rounds = [
                    {file: _measure(server, file, load, options) for file, (_, load) in loads.items()}
                    for _ in range(options.rounds + 1)
                ][1:]  # one warms up
            rows += [
                {"runner": runner, "floats": name, **_medians(rounds, file)} for file, (name, _) in loads.items()
            ]
    print_table("medians over the rounds; JSON: parsing and writing it, alone in this process", rows)
    write_result("tensors", options, rows=rows)
    return 0


def _medians(rounds: list[dict[str, Row]], file: str) -> Row:
    return {name: median(each[file][name] for each in rounds) for name in rounds[0][file]}


def _measure(server: TorchServingServer, file: str, load: Load, options: argparse.Namespace) -> Row:
    url, body = server.api + serve_path(file), body_of(load.tensor)
    lone = lone_posts(url, body, options.requests)
    if not all(np.allclose(values_of(answer), load.answer.reshape(-1), rtol=1e-5) for _, answer in lone):
        raise RuntimeError(f"a wrong answer of {file}: {lone[0][1][:200]!r}")
    tree = ProcessTree(server.process.pid)
    before = tree.cpu_seconds()
    closed = body_wrk(url, body, options.connections, options.seconds)
    cpu_ms = spent_between(before, tree.cpu_seconds()) / closed["requests"] * 1000
    json_ms = sum(_json_ms(body, load.answer, options.requests))
    return {
        "requests_per_s": closed["requests"] / closed["seconds"],
        "per_s_and_core": 1000 / cpu_ms,
        "cpu_ms": cpu_ms,
        "json_ms": json_ms,
        "json_percent": 100 * json_ms / cpu_ms,
        "p99_ms": closed["p99"],
        "lone_ms": median(seconds * 1000 for seconds, _ in lone),
    }


def _json_ms(body: bytes, answer: Nested, times: int) -> tuple[float, float]:
    """Time of parsing a request, and of writing the answer."""
    return _median_ms(lambda: parsed(body), times), _median_ms(lambda: good(json_of(answer)), times)


def _median_ms(call: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return median(taken) * 1000
