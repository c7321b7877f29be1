"""Images that are costly to decode, and the latency of small ones beside them: `python -m benchmark bombs`."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmark.bombs.cost import file_of, measure
from benchmark.bombs.files import BOMBS
from benchmark.harness.clients import ask
from benchmark.harness.photos import PORTRAIT, photos_alike
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT, CandidateServer
from benchmark.load.crew import run_plan
from benchmark.load.plan import Plan, Question, Rules, poisson
from benchmark.load.questions import ask_engine
from benchmark.load.tally import Tally
from models.bundles.bundle import ModelBundle

_SERVED = ("jpeg-grain-40", "webp-lossless", "png-16-interlaced")
_FOLDER = ROOT / ".cache" / "benchmark" / "bombs"
_SAMPLE_S = 0.1
_WARM_UP_S = 3.0


def add_command(commands: Any) -> None:
    """Adds `bombs` to the command line."""
    parser = add_parser(commands, "bombs", __doc__, run)
    parser.add_argument("--costs", action="store_true", help="the cost of every kind, without a server")
    parser.add_argument(
        "--kind", action="append", choices=sorted(BOMBS), help="repeatable; default: three, --costs: all"
    )
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "demo", help="bundle; default: the demo")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="of the server; default: this one")
    parser.add_argument(
        "--server-option", action="append", default=[], help="of the server, as one word; repeatable"
    )
    add_option(parser, "rate", 60.0, "small images a second")
    add_option(parser, "share", 0.3, "of all cores, that the big images ask for")
    add_option(parser, "big-rate", 0.0, "of the big images, instead of a share")
    add_option(parser, "seconds", 10.0, "of each part of a round")
    add_option(parser, "rounds", 3)
    add_option(parser, "rest", 60.0, "seconds until the memory is read again")


def run(options: argparse.Namespace) -> int:
    """Measures, prints a table, writes the JSON. Returns 1 after a wrong answer."""
    if options.costs:
        rows = [measure(name, file_of(name, _FOLDER)) for name in options.kind or BOMBS]
        print_table("one thread, IMAGENET's crop", rows)
        write_result("bombs", options, costs=rows)
        return 0
    questions = _questions(options.model)
    rows = [_beside(name, questions, options) for name in options.kind or _SERVED]
    print_table(f"{options.rate:g} small images a second; latency in ms, memory of all processes in MB", rows)
    write_result("bombs", options, rows=rows)
    return int(any(row["wrong"] for row in rows))


def _questions(model: Path) -> tuple[Question, ...]:
    return tuple(ask_engine(ModelBundle.load(model), ((file.name, file.read_bytes()) for file in photos_alike())))


def _beside(name: str, questions: tuple[Question, ...], options: argparse.Namespace) -> Row:
    """Small images without and with big ones, in turns; then a rest."""
    file = file_of(name, _FOLDER)
    rate = options.big_rate or options.share * (os.cpu_count() or 1) / (measure(name, file)["cpu_ms"] / 1000)
    alone, beside, answers = Tally(), Tally(), Counter[str]()
    with _Server(options) as server, _Peak(server) as peak:
        _small(server, questions, options, _WARM_UP_S)
        before_mb = server.tree.memory_mb("rss")
        for number in range(options.rounds):
            alone.add(_small(server, questions, options, options.seconds, number))
            with _Stream(server.url, file, rate, answers):
                beside.add(_small(server, questions, options, options.seconds, number))
        time.sleep(options.rest)
        rested_mb = server.tree.memory_mb("rss")
    without, found = alone.to_json()["latency_ms"], beside.to_json()
    times, refused = found["latency_ms"], {"refused": found["refused"]} if found["refused"] else {}
    return {
        "beside": f"{rate:.2f} {name} a second",
        "p50 without": without["p50"],
        "p50": times["p50"],
        "p99 without": without["p99"],
        "p99": times["p99"],
        "p99 x": times["p99"] / without["p99"],
        "sent": found["sent"],
        "ok": found["ok"],
        "wrong": found["wrong"] + alone.wrong,
        "others": _in_words({**found["errors"], **refused}) or "0",
        "big ones": _in_words(answers),
        "MB before": before_mb,
        "MB peak": peak.most_mb,
        "MB rested": rested_mb,
    }


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(counts.items()))


class _Server(CandidateServer):
    def __init__(self, options: argparse.Namespace) -> None:
        folder = options.checkout.resolve()
        words = [sys.executable, "-m", "server", "--model", str(options.model.resolve()), *options.server_option]
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        super().__init__(lambda port: [*words, "--port", str(port)], folder, environment, PORTRAIT)


def _small(
    server: _Server, questions: tuple[Question, ...], options: argparse.Namespace, seconds: float, seed: int = 0
) -> Tally:
    rules = Rules(tuple(ModelBundle.load(options.model).labels))
    due_s = poisson(options.rate, seed, seconds=seconds)
    return run_plan(Plan(server.url, questions, rules, due_s, seed=seed, name=os.urandom(4).hex()))


class _Peak:
    """The most memory of a server, while it is open."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most_mb = server.tree.memory_mb("rss")

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self.most_mb = max(self.most_mb, self._server.tree.memory_mb("rss"))

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


class _Stream:
    """Sends one image at a steady rate, whatever becomes of it, while it is open."""

    def __init__(self, url: str, file: Path, rate: float, answers: Counter[str]) -> None:
        self._answers = answers
        self._url, self._file, self._gap = url, file, 1 / rate
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(256)
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._ask)
            due += self._gap

    def _ask(self) -> None:
        try:
            ask(self._url, self._file)
            self._answers["200"] += 1
        except urllib.error.HTTPError as error:
            self._answers[str(error.code)] += 1
        except OSError as error:
            self._answers[type(error).__name__] += 1

    def __enter__(self) -> _Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._pool.shutdown()
