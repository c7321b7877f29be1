"""The cost of a request over each protocol: `python -m benchmark http --protocols`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from benchmark.harness.clients import body_wrk, lone_posts, scrape
from benchmark.harness.cores import on_core, server_and_load_cores
from benchmark.harness.open_inference import Body, TensorAsked, load_model, rpc_answer, rpc_load
from benchmark.harness.results import Row, print_table, write_result
from benchmark.harness.server import ProcessTree, ServerProcess, spent_between
from benchmark.harness.serving import body_of, serve_path
from benchmark.harness.store import DEMO, Means, Sum, write_program
from benchmark.harness.trivial_server import TrivialServer

_FEW, _IMAGE = "10 floats", "3x224x224 floats"
_ANSWERED = "snapserve_requests_total"


class Way(NamedTuple):
    """A way to send a request.

    Attributes:
        load: connections and seconds -> requests and seconds.
        check: raises where one request is not answered.
    """

    load: Callable[[int, float], dict[str, float]]
    check: Callable[[], object]


def run_protocols(options: argparse.Namespace) -> int:
    """Measures each protocol in interleaved rounds, prints the medians, writes the JSON."""
    server_core, load_core = server_and_load_cores()
    image, rows = options.image.read_bytes(), []
    with (
        TrivialServer("--core", str(server_core), "--grpc-port", "0") as server,
        on_core(load_core),
    ):
        ways = {"/classify": _post(f"{server.url}/classify", Body(image, {}))}
        ways |= _protocol(server, _rpc_of(server), "hash", TensorAsked("image", image))
        rows += _measured("image", ways, server, options)
    with _programs(server_core) as (server, ways_of), on_core(load_core):
        for name, ways in ways_of.items():
            rows += _measured(name, ways, server, options)
    print_table("one worker on one core, the load on another; medians of the rounds", rows)
    write_result("protocols", options, rows=rows)
    return 0


@contextmanager
def _programs(core: int) -> Iterator[tuple[ServerProcess, dict[str, dict[str, Way]]]]:
    """A server of two programs, and the ways to each by what is sent."""
    rng = np.random.default_rng(0)
    sent = {_FEW: ("few", rng.random((10,), np.float32)), _IMAGE: ("means", rng.random((3, 224, 224), np.float32))}
    with tempfile.TemporaryDirectory() as folder:
        write_program(Sum(1.0), Path(folder, "few.pt"))
        write_program(Means(), Path(folder, "means.pt"))
        ports = ("--management-port", "0", "--grpc-port", "0", "--api", "torch-serving")
        words = ("--model", str(DEMO), "--model-store", folder, "--runner", "thread", "--workers", "1")
        with on_core(core):
            started = ServerProcess(*words, *ports, "--target-latency-ms", "off")
        with started as server:
            rpc = _rpc_of(server)
            where, token = server.line("models are managed on ").removeprefix("models are managed on ").split(", ")
            ways: dict[str, dict[str, Way]] = {}
            for name, (model, values) in sent.items():
                load_model(where, token.split()[-1], model)
                ways[name] = {"/serve": _post(server.url + serve_path(f"{model}.pt"), Body(body_of(values), {}))}
                ways[name] |= _protocol(server, rpc, model, TensorAsked("x", values))
            yield server, ways


def _rpc_of(server: ServerProcess) -> str:
    return server.line("Open Inference over gRPC on ").rpartition(" ")[2]


def _protocol(server: ServerProcess, rpc: str, model: str, asked: TensorAsked) -> dict[str, Way]:
    """The three ways of the Open Inference Protocol."""
    url, message = f"{server.url}/v2/models/{model}/infer", asked.message(model)
    return {
        "/v2 binary": _post(url, asked.binary()),
        "/v2 JSON": _post(url, asked.in_json()),
        "gRPC": Way(partial(rpc_load, rpc, message), partial(rpc_answer, rpc, message)),
    }


def _post(url: str, body: Body) -> Way:
    def load(connections: int, seconds: float) -> dict[str, float]:
        return body_wrk(url, body.content, connections, seconds, body.headers)

    return Way(load, partial(lone_posts, url, body.content, 1, body.headers))


def _measured(sent: str, ways: dict[str, Way], server: ServerProcess, options: argparse.Namespace) -> list[Row]:
    for way in ways.values():
        way.check()
    rounds = [
        {name: _measure(way, server, options) for name, way in ways.items()} for _ in range(options.rounds + 1)
    ][1:]  # one warms up
    return [
        {"sent": sent, "protocol": name, **{each: median(one[name][each] for one in rounds) for each in figures}}
        for name, figures in rounds[0].items()
    ]


def _measure(way: Way, server: ServerProcess, options: argparse.Namespace) -> dict[str, float]:
    tree, refused = ProcessTree(server.process.pid), _refused(server)
    before = tree.cpu_seconds()
    load = way.load(options.connections, options.seconds)
    cpu_s = spent_between(before, tree.cpu_seconds())
    if _refused(server) != refused:
        raise RuntimeError("requests were not answered")
    return {
        "requests_per_s": round(load["requests"] / load["seconds"], 1),
        "cpu_us": round(cpu_s / load["requests"] * 1e6, 1),
        "core_busy": round(cpu_s / load["seconds"], 3),
    }


def _refused(server: ServerProcess) -> float:
    """Requests that have failed; those whose load has just ended may have left."""
    kinds = ("ok", "client-left")
    return sum(
        each.value for each in scrape(server.url) if each.name == _ANSWERED and each.labels["outcome"] not in kinds
    )
