"""SnapServe in TorchServe's place: answers and speed with one archive, as it is and optimised."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Self

import torch
from PIL import ExifTags, Image
from torch.nn import functional
from torchvision.models import resnet18  # type: ignore[import-untyped,unused-ignore]

from benchmark.harness.clients import body_wrk
from benchmark.harness.photos import PORTRAIT, encode, photo, photos_alike
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT, ProcessTree, spent_between
from benchmark.harness.store import write_program
from benchmark.peers.environment import Environment, PeerMissing
from benchmark.peers.torchserve import missing
from models.bundles.bundle import ModelBundle
from models.bundles.spec import IMAGENET
from models.images.preprocess import Preprocessor

_NAME = "resnet18"
_START_S = 120.0
_STOP_S = 20.0
_SURE, _OTHERS = 2.0, 3.0  # lengths of the last layer's rows: best scores of 0.02 to 1, in the median 0.8
_SAME = 1e-4
_LEAST = 0.1  # requests/s that a turn without any answer counts as
_OPTIMISED = "snapserve optimised"
Scores = dict[str, float]  # label -> score, the highest first


def add_command(commands: Any) -> None:
    """Adds `torchserve` to the command line."""
    parser = add_parser(commands, "torchserve", __doc__, run)
    parser.add_argument(
        "--photos", type=Path, help="folder of JPEGs whose answers are compared, upright ones; default: made ones"
    )
    add_option(parser, "images", 200, "whose answers are compared")
    add_option(parser, "rounds", 5)
    add_option(parser, "seconds", 8, "of each turn")
    add_option(parser, "connections", 32)
    add_option(parser, "workers", 2, "of the model, on both servers")
    add_option(parser, "batch-size", 8)
    add_option(parser, "max-batch-delay", 10, "milliseconds")
    add_option(parser, "budget-s", 0, "of the optimiser; 0: no limit")
    parser.add_argument("--cores", type=int, help="for servers and load together; default: all there are")


def run(options: argparse.Namespace) -> int:
    """Compares answers, then measures in interleaved rounds. 1 if answers differ, 0 without TorchServe."""
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    environment = Environment("torchserve")
    try:
        environment.install()
        reason = missing()
    except PeerMissing as error:
        reason = str(error)
    if reason:
        print(f"torchserve: skipped: {reason}")
        return 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        store = _make_store(Path(folder, "store"), environment.python)
        bundle = _optimised(store / f"{_NAME}.mar", Path(folder, "bundle"), options)
        ours = (sys.executable, "-m", "snapserve.torchserve_command", "--port", "0")
        programs = {
            "torchserve": (str(environment.folder / "bin" / "torchserve"),),
            "snapserve": ours,
            # TorchServe lets requests wait, too, however long that takes.
            _OPTIMISED: (*ours, "--target-latency-ms", "off", "--model", str(bundle.file.parent)),
        }
        servers = {
            name: stack.enter_context(Served(words, Path(folder, name.replace(" ", "-")), store, options))
            for name, words in programs.items()
        }
        agreement = compare({name: each.url for name, each in servers.items()}, list(_images(options)))
        print_table("answers beside TorchServe's", agreement)
        rows = _race(servers, options)
    print_table(f"medians of {options.rounds} rounds, {options.connections} connections", rows)
    engine = {"precision": bundle.spec.engine.precision, "kind": bundle.spec.engine.kind}
    write_result(
        "torchserve", options, agreement=agreement, rows=rows, engine=engine, packages=environment.versions()
    )
    as_it_is = agreement[0]
    return 1 if as_it_is["other_order"] or as_it_is["largest_difference"] > _SAME else 0


def _optimised(archive: Path, output: Path, options: argparse.Namespace) -> ModelBundle:
    """The bundle that the optimiser makes of an archive."""
    script = str(ROOT / "optimize_model_for_inference.py")
    words = ["--from", str(archive), "--output", str(output), "--budget-s", str(options.budget_s)]
    subprocess.run([sys.executable, script, *words], check=True)
    return ModelBundle.load(output)


def _make_store(store: Path, python: Path) -> Path:
    """One archive of the real archiver: TorchScript, fp32, with the built-in image_classifier."""
    store.mkdir()
    labels = store.parent / "index_to_name.json"
    labels.write_text(json.dumps({str(index): [f"n{index:08}", f"label_{index}"] for index in range(1000)}))
    weights = store.parent / "model.pt"
    write_program(network(), weights)
    words = [
        "--model-name",
        _NAME,
        "--handler",
        "image_classifier",
        "--version",
        "1.0",
        "--export-path",
        str(store),
    ]
    words += ["--serialized-file", str(weights), "--extra-files", str(labels)]
    subprocess.run([str(python), "-m", "model_archiver.model_packaging", *words], check=True)
    return store


def network() -> torch.nn.Module:
    """ResNet18 of random weights that is as sure of its answers as a trained one.

    Its normalisation layers have the statistics of photos: those of random weights would say the same to all. Its
    first labels are photos, each told by what sets its features apart; all others are random.
    """
    torch.manual_seed(0)
    made = resnet18(weights=None)
    preprocess = Preprocessor(IMAGENET)
    pixels = torch.stack([torch.tensor(preprocess(file.read_bytes())) for file in photos_alike()])
    mean, std = torch.tensor(IMAGENET.mean), torch.tensor(IMAGENET.std)
    batch = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    last, made.fc = made.fc, torch.nn.Identity()
    with torch.no_grad():
        for _ in range(20):
            made.train()(batch)
        features = made.eval()(batch)
        last.weight.mul_(_OTHERS)
        last.weight[: len(features)] = _SURE * functional.normalize(features - features.mean(dim=0))
    made.fc = last
    return made.eval()  # type: ignore[no-any-return,unused-ignore]


def _images(options: argparse.Namespace) -> Iterator[bytes]:
    """Encoded photos: those of a folder, or parts of ours of several sizes and qualities."""
    if options.photos:
        files = sorted(file for file in options.photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
        yield from (file.read_bytes() for file in [file for file in files if _is_upright(file)][: options.images])
        return
    sources = [photo(file) for file in photos_alike()]
    for number in range(options.images):
        source = sources[number % len(sources)]
        left, top = (number * 7) % 200, (number * 13) % 300
        part = source.crop((left, top, left + 240 + number % 50, top + 260 + number % 90))
        yield encode(part, quality=60 + number % 36)


def _is_upright(file: Path) -> bool:
    """Whether EXIF says nothing of a rotation, which TorchServe passes over."""
    with Image.open(file) as image:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) == 1)


class Served:
    """A server that TorchServe's script starts from a config.properties; a context manager that ends it.

    Attributes:
        url: of the model's predictions.
        tree: its processes.
    """

    def __init__(self, program: Sequence[str], folder: Path, store: Path, options: argparse.Namespace) -> None:
        """Prepares it. program: words; folder: working directory, made here; store: of the archive."""
        folder.mkdir()
        ports = _free_ports(3)
        self.url = f"http://127.0.0.1:{ports[0]}/predictions/{_NAME}"
        self._words, self._folder = [*program, "--start", "--foreground", "--ncs", "--ts-config"], folder
        self._config = folder / "config.properties"
        settings = _settings(store, ports, options)
        if "--model" in program:
            settings = {key: value for key, value in settings.items() if key not in ("load_models", "models")}
        self._config.write_text(_properties(settings))

    def __enter__(self) -> Self:
        with (self._folder / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                [*self._words, str(self._config)],
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self._folder)},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.tree = ProcessTree(self._process.pid)
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                scores(self.url, PORTRAIT.read_bytes())
                return
            time.sleep(0.2)
        raise RuntimeError(f"no answer: {(self._folder / 'output.txt').read_text()[-2000:]}")


def _settings(store: Path, ports: Sequence[int], options: argparse.Namespace) -> Mapping[str, object]:
    model = {
        "defaultVersion": True,
        "marName": f"{_NAME}.mar",
        "minWorkers": options.workers,
        "maxWorkers": options.workers,
        "batchSize": options.batch_size,
        "maxBatchDelay": options.max_batch_delay,
        "responseTimeout": 120,
    }
    addresses = zip(("inference", "management", "metrics"), ports, strict=True)
    return {
        **{f"{api}_address": f"http://127.0.0.1:{port}" for api, port in addresses},
        "model_store": store,
        "load_models": f"{_NAME}.mar",
        "models": json.dumps({_NAME: {"1.0": model}}),
        "disable_token_authorization": "true",
        "job_queue_size": 1000,
    }


def _properties(settings: Mapping[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def scores(url: str, image: bytes) -> Scores:
    """A model's answer to an image, as the body of a request. Raises OSError where there is none."""
    request = urllib.request.Request(url, image, {"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: Scores = json.load(response)
    return answer


def compare(urls: Mapping[str, str], images: Sequence[bytes]) -> list[Row]:
    """Differences of servers' answers from those of the first; images that it refuses are only counted.

    Returns:
        A row for each further server: images with another best label, with other five best labels, with the same
        in another order, and the largest difference of a score.
    """
    first, *others = urls
    expected = {}
    for number, image in enumerate(images):
        with contextlib.suppress(urllib.error.HTTPError):  # TorchServe takes RGB alone
            expected[number] = scores(urls[first], image)
    rows = []
    for name in others:
        given = [(theirs, scores(urls[name], images[number])) for number, theirs in expected.items()]
        rows.append(
            {"server": name, "images": len(images), "refused": len(images) - len(given), **_differences(given)}
        )
    return rows


def _differences(pairs: Sequence[tuple[Scores, Scores]]) -> Row:
    gaps = (abs(theirs[label] - ours[label]) for theirs, ours in pairs for label in theirs.keys() & ours.keys())
    return {
        "other_first": sum(next(iter(theirs)) != next(iter(ours)) for theirs, ours in pairs),
        "other_five": sum(theirs.keys() != ours.keys() for theirs, ours in pairs),
        "other_order": sum(list(theirs) != list(ours) for theirs, ours in pairs),
        "largest_difference": max(gaps, default=0.0),
    }


def _race(servers: Mapping[str, Served], options: argparse.Namespace) -> list[Row]:
    turns: dict[str, list[Row]] = {name: [] for name in servers}
    body = PORTRAIT.read_bytes()
    for number in range(options.rounds + 1):
        names = list(servers)[:: 1 if number % 2 else -1]
        for name in names:
            for each in servers.values():  # TorchServe goes on for clients that have left
                each.tree.settle()
            row = _turn(servers[name], body, options)
            print(f"round {number}: {name}: {row['requests_per_s']:.1f}/s, p99 {row['p99_ms']:.0f} ms", flush=True)
            turns[name] += [row] if number else []  # the first warms up
    base = [row["requests_per_s"] for row in turns["torchserve"]]
    return [{"server": name, **_summary(rows, base)} for name, rows in turns.items()]


def _turn(server: Served, body: bytes, options: argparse.Namespace) -> Row:
    before = server.tree.cpu_seconds()
    closed = body_wrk(server.url, body, options.connections, options.seconds)
    spent = spent_between(before, server.tree.cpu_seconds())
    return {
        "requests_per_s": closed["requests"] / closed["seconds"],
        "p50_ms": closed["p50"],
        "p99_ms": closed["p99"],
        "cpu_ms": spent / max(1, closed["requests"]) * 1000,
    }


def _summary(rows: Sequence[Row], base: Sequence[float]) -> Row:
    rates = [row["requests_per_s"] for row in rows]
    return {
        **{name: median(row[name] for row in rows) for name in rows[0]},
        "least": min(rates),
        "most": max(rates),
        "times_torchserve": median(rate / max(theirs, _LEAST) for rate, theirs in zip(rates, base, strict=True)),
    }
