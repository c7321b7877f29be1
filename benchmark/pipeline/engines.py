"""Every engine of a device beside each other, over batch sizes: `python -m benchmark engines --device cuda`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from rich.console import Console

from benchmark.harness.results import Row, add_option, add_parser, numbers, print_table, write_result
from models.bundles.labels import Labels
from models.bundles.spec import IMAGENET
from models.engines import cuda_graphs
from models.engines.base import Engine
from models.engines.graph_engine import GraphEngine
from models.engines.torch_engine import TorchEngine
from models.images.preprocess import Pixels
from models.machine.resources import usable_cores
from models.optimize.candidates import Candidate, Job, candidates_for, cuda
from models.optimize.contestant import Contestant, Setting
from models.optimize.isolation import FAILURES, isolated, prepare, reason_of, time_limit
from models.optimize.sources import WeightsChoice, resolve
from models.optimize.timing import CPU_BATCH_SIZES, CUDA_BATCH_SIZES, Rounds

_GOALS = {"images_per_s": 40_000, "lone_ms": 0.5}  # of the best batch and of a batch of one, on an H200-class card
_CALLS = {"cpu": 1, "cuda": 5}  # of each batch size in a round
_COMPARED = 11  # images on which answers are compared
_CALIBRATION = 16  # images that int8 is calibrated on
_PIECES = {"whole": max(CUDA_BATCH_SIZES), "16": 16, "64": 64}  # into which CUDA graphs cut batches, to compare


class Entry(NamedTuple):
    """A candidate of the optimiser, or CUDA graphs with pieces of another size, which are not served."""

    name: str
    candidate: Candidate
    largest_piece: int | None = None


class Entrant(Contestant):
    """An entry at work, as the optimiser has it; made for a process of its own."""

    def __init__(self, entry: Entry, job: Job, labels: Labels, folder: Path, setting: Setting) -> None:
        super().__init__(entry.candidate, job, "resnet18", labels, folder)
        self._largest_piece = entry.largest_piece
        self._setting = setting

    def prepare(self) -> Row:
        """Builds and loads the engine. Returns facts about it. Raises ModelError."""
        self.build()
        piece = self._largest_piece
        load = partial(cuda_graphs.load, largest_piece=piece) if piece else cuda_graphs.load
        with mock.patch.object(cuda_graphs, "load", load):
            self.round(self._setting, (1,))
        engine = self._engine(self._setting)
        buckets = getattr(engine, "buckets", None)
        return {"precision": engine.spec.precision, "memory_format": engine.spec.memory_format, "buckets": buckets}

    def device_ms(self, size: int) -> float:
        """Milliseconds of a batch that lies on the card, by the card's events."""
        return device_ms(self._engine(self._setting), size)


@dataclass
class Measured:
    """What is known of an entry: milliseconds by batch size, a value per call."""

    facts: Row = field(default_factory=dict)
    reason: str = ""
    prepared_s: float = 0.0
    infer_ms: Mapping[int, Sequence[float]] = field(default_factory=dict)
    device_ms: dict[int, list[float]] = field(default_factory=dict)

    def to_json(self) -> Row:
        """For the result."""
        return {
            "reason": self.reason,
            "prepared_s": round(self.prepared_s, 1),
            **self.facts,
            "infer": _summary(self.infer_ms),
            "device_only": _summary(self.device_ms),
        }


def _summary(rounds_ms: Mapping[int, Sequence[float]]) -> dict[str, Row]:
    return {
        str(size): {
            "ms": round(median(rounds), 4),
            "images_per_s": round(size * 1000 / median(rounds), 1),
            "rounds_ms": [round(ms, 4) for ms in rounds],
        }
        for size, rounds in rounds_ms.items()
        if rounds
    }


def add_command(commands: Any) -> None:
    """Adds `engines` to the command line."""
    parser = add_parser(commands, "engines", __doc__, run)
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=here, help="default: %(default)s")
    parser.add_argument("--engines", default="", help="names, separated by commas; default: all that run here")
    parser.add_argument("--sizes", type=numbers, help="batch sizes, separated by commas; default: the device's")
    add_option(parser, "rounds", 7, "that count")
    add_option(parser, "limit-s", 240.0, "to prepare one engine")


def run(options: argparse.Namespace) -> int:
    """Prepares, measures in rounds, prints the tables, writes the JSON. Returns 1 when no engine runs."""
    wanted = options.engines.split(",") if options.engines else []
    found = [each for each in entries(options.device) if not wanted or each.name in wanted]
    sizes = options.sizes or (CUDA_BATCH_SIZES if options.device == "cuda" else CPU_BATCH_SIZES)
    comparison = Comparison(options.device, sizes, Console(width=200))
    with ExitStack() as stack:
        running = comparison.prepare(stack, found, options.limit_s)
        differences = comparison.differences(running)
        comparison.measure(running, options.rounds)
    comparison.print()
    if not running:
        print(f"no engine of device {options.device!r} runs here")
        return 1
    write_result(
        "engines",
        options,
        model="ResNet18 with random weights: for speed only",
        goals=_GOALS if options.device == "cuda" else None,
        largest_score_difference=differences,
        engines=[{"name": name, **each.to_json()} for name, each in comparison.measured.items()],
    )
    return 0


def entries(device: str) -> list[Entry]:
    """The optimiser's candidates, and CUDA graphs in pieces of other sizes ("+16", "+64") and whole ("+whole")."""
    found = []
    for candidate in candidates_for(device):
        if not candidate.is_published:  # which would need a network
            found.append(Entry(candidate.name, candidate))
        if candidate is cuda.GRAPHS:
            found += [Entry(f"{candidate.name}+{name}", candidate, piece) for name, piece in _PIECES.items()]
    return found


class Comparison:
    """Engines of one device, which take turns.

    Attributes:
        measured: by name.
    """

    def __init__(self, device: str, sizes: tuple[int, ...], console: Console) -> None:
        """Prepares nothing yet. sizes: of batches."""
        self.measured: dict[str, Measured] = {}
        self._device, self._sizes, self._console = device, sizes, console
        self._setting = Setting(1 if device == "cuda" else usable_cores())

    def prepare(self, stack: ExitStack, found: Sequence[Entry], limit_s: float) -> dict[str, Entrant]:
        """Builds and loads engines from random weights of ResNet18, each in a process, or notes why not."""
        prepare("torch", "benchmark.pipeline.engines")
        weights = resolve(WeightsChoice("resnet18", weights="none", device=self._device), Console(quiet=True))
        job = Job(weights.network(), weights.preprocess, self._sizes, _noise(_CALIBRATION))
        folder, running = Path(stack.enter_context(tempfile.TemporaryDirectory())), {}
        for entry in found:
            self._say(f"preparing {entry.name}")
            record = self.measured[entry.name] = Measured()
            is_over: Callable[[], bool] = bool
            place, began = folder / entry.name, time.perf_counter()
            place.mkdir()
            entrant = stack.enter_context(isolated(Entrant, entry, job, weights.labels, place, self._setting))
            try:
                with time_limit(entrant.pid(), limit_s) as is_over:
                    record.facts = entrant.prepare()
                running[entry.name] = entrant
            except FAILURES as failure:
                reason = f"took longer than {limit_s:g} s" if is_over() else reason_of(failure)
                record.reason = f"not prepared: {reason}"
            record.prepared_s = time.perf_counter() - began
        return running

    def differences(self, running: Mapping[str, Entrant]) -> dict[str, float]:
        """Largest difference of any score from the first engine's, on noise: whether all do the same work."""
        answers = {name: each.scores(_noise(_COMPARED), self._setting) for name, each in running.items()}
        first = next(iter(answers), "")
        return {name: float(f"{np.abs(answer - answers[first]).max():.3g}") for name, answer in answers.items()}

    def measure(self, running: Mapping[str, Entrant], rounds: int) -> None:
        """Times every engine and size in turn; the first round, in which engines settle, is dropped."""
        timed = {name: Rounds(self._sizes, (self._setting,)) for name in running}
        for number in range(rounds + 1):
            self._say(f"round {number} of {rounds}")
            for name, entrant in running.items():
                if self.measured[name].reason:
                    continue
                try:
                    self._turn(entrant, timed[name], self.measured[name], counts=number > 0)
                except FAILURES as failure:
                    self.measured[name].reason = f"failed: {reason_of(failure)}"
        for name, each in timed.items():
            self.measured[name].infer_ms = {size: ms for size, ms in each.speeds[0].rounds_ms.items() if ms}

    def _turn(self, entrant: Entrant, rounds: Rounds, record: Measured, counts: bool) -> None:
        if not counts:
            rounds.settle(entrant)
        for _ in range(_CALLS[self._device] if counts else 0):
            rounds.add(entrant)
        for size in self._sizes if self._device == "cuda" else ():
            ms = entrant.device_ms(size)
            if counts:
                record.device_ms.setdefault(size, []).append(ms)

    def print(self) -> None:
        """Tables of what ran: images/s, and how many times as fast as the first engine; reasons of the others."""
        for title, attribute in (("infer, copies included", "infer_ms"), ("the device alone", "device_ms")):
            timed = {name: getattr(each, attribute) for name, each in self.measured.items()}
            medians = {name: {size: median(ms) for size, ms in of.items()} for name, of in timed.items() if of}
            first = next(iter(medians.values()), {})
            rows = [
                {"engine": name, **{str(size): _cell(size, of[size], first[size]) for size in first if size in of}}
                for name, of in medians.items()
            ]
            if rows:
                print_table(f"{title}: images/s, ms, times as fast as the first", rows, self._console)
        for name, each in self.measured.items():
            if each.reason:
                self._say(f"{name}: {each.reason}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


def _cell(size: int, ms: float, first_ms: float) -> str:
    return f"{size * 1000 / ms:,.0f}\n{ms:.3g} ms\n{first_ms / ms:.2f}x"


def _noise(count: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, IMAGENET.crop_size, IMAGENET.crop_size, 3), np.uint8)


@torch.inference_mode()
def device_ms(engine: Engine, size: int, repeats: int = 10) -> float:
    """Milliseconds of a batch by the card's events: the mean of `repeats` that were asked for at once.

    The pixels lie there already; nothing is copied. Small batches of an engine that asks for each operator take as
    long as the asking.
    """
    event: Any = torch.cuda.Event  # has no types
    begun, ended = event(enable_timing=True), event(enable_timing=True)
    _launch(engine, size)
    torch.cuda.synchronize()
    begun.record()
    for _ in range(repeats):
        _launch(engine, size)
    ended.record()
    ended.synchronize()
    return float(begun.elapsed_time(ended)) / repeats


def _launch(engine: Engine, size: int) -> None:
    if isinstance(engine, GraphEngine):
        engine.launch(size, torch.cuda.current_stream())
    else:
        assert isinstance(engine, TorchEngine)
        engine._module(engine._input[:size])  # what `infer` runs, between its copies
