"""Engines that are timed beside each other: prepared, compared, measured in rounds."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmark.card import device_ms
from models.bundles.bundle import ModelBundle
from models.bundles.spec import IMAGENET
from models.engines import cuda_graphs, load_engine
from models.engines.base import Engine, EngineOptions
from models.errors import ModelError
from models.machine.resources import usable_cores
from models.optimize.candidates import Candidate, Job, candidates_for, cuda
from models.optimize.contestant import Contestant
from models.optimize.sources import WeightsChoice, resolve
from models.optimize.timing import CUDA_BATCH_SIZES

_SHAPE = (IMAGENET.crop_size, IMAGENET.crop_size, 3)
_TURN_S = 0.03  # that one engine works on one batch size before the next has its turn
_SOURCES = 4  # sets of pictures that take turns, so that none waits in the processor's cache

Load = Callable[[ModelBundle, EngineOptions], Engine]
Pictures = Sequence[NDArray[np.uint8]]
Row = dict[str, Any]


@dataclass
class Entrant:
    """An engine at the start, and what was measured of it: milliseconds by batch size, a value per round."""

    name: str
    candidate: Candidate
    load: Load = load_engine
    engine: Engine | None = None
    prepared_s: float = 0.0
    reason: str = ""
    infer_ms: dict[int, list[float]] = field(default_factory=dict)
    device_ms: dict[int, list[float]] = field(default_factory=dict)

    def to_json(self) -> Row:
        spec = self.engine.spec if self.engine else None
        return {
            "name": self.name,
            "reason": self.reason,
            "prepared_s": round(self.prepared_s, 1),
            "precision": spec.precision if spec else None,
            "memory_format": spec.memory_format if spec else None,
            "buckets": getattr(self.engine, "buckets", None),
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
    }


def entrants(device: str) -> list[Entrant]:
    """The optimiser's candidates, and CUDA graphs in ways that are not served, to see whether they should be.

    "+whole" does not cut batches, "+16" and "+64" cut them into such pieces.
    """
    found = []
    for candidate in candidates_for(device):
        if not candidate.is_published:  # which would need a network
            found.append(Entrant(candidate.name, candidate))
        if candidate is cuda.GRAPHS:
            variants: dict[str, Load] = {
                "whole": partial(cuda_graphs.load, largest_piece=max(CUDA_BATCH_SIZES)),
                "16": partial(cuda_graphs.load, largest_piece=16),
                "64": partial(cuda_graphs.load, largest_piece=64),
            }
            found += [Entrant(f"{candidate.name}+{name}", candidate, load) for name, load in variants.items()]
    return found


def prepare(
    found: Sequence[Entrant], folder: Path, device: str, largest: int, limit_s: float, console: Console
) -> None:
    """Builds and loads every engine, from random weights of ResNet18, or notes the reason why not."""
    weights = resolve(WeightsChoice("resnet18", weights="none", device=device), Console(quiet=True))
    job = Job(weights.network(), weights.preprocess, (largest,), np.stack(pictures(1, 16)[0]))
    choice = EngineOptions(device, usable_cores(), 1, largest)
    for number, each in enumerate(found):
        console.print(f"preparing {each.name}", markup=False, highlight=False)
        place = folder / str(number)
        place.mkdir()
        began = time.perf_counter()
        try:
            with TimeLimit(limit_s):
                Contestant(each.candidate, job, weights.architecture, weights.labels, place).build()
                each.engine = each.load(ModelBundle.load(place), choice)
        except (ModelError, RuntimeError, TimeoutError) as error:
            each.reason = f"not prepared: {error}"
        each.prepared_s = time.perf_counter() - began


class TimeLimit(AbstractContextManager[None]):
    """Raises TimeoutError in what takes longer, such as a compiler's search, as soon as it is back in Python.

    No generator: in `contextlib.contextmanager` the signal may come when the generator has yielded and the block
    has not begun, and then nothing would restore the handler.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._old_timer = signal.getitimer(signal.ITIMER_REAL)
        self._old_handler = signal.signal(signal.SIGALRM, self._give_up)
        try:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
        except TimeoutError:
            self._restore()
            raise

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _give_up(self, *_: object) -> None:
        raise TimeoutError(f"took longer than {self._seconds:g} s")

    def _restore(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, *self._old_timer)
        signal.signal(signal.SIGALRM, self._old_handler)


def compare(running: Sequence[Entrant], largest: int) -> dict[str, float]:
    """Largest difference of any score from the first engine's, on noise: whether all do the same work."""
    batch = pictures(1, min(largest, 11))[0]
    answers = {each.name: each.engine.infer(batch) for each in running if each.engine}
    first = next(iter(answers.values()))
    return {name: float(f"{np.abs(answer - first).max():.3g}") for name, answer in answers.items()}


def pictures(sets: int, count: int) -> list[Pictures]:
    """Noise, in separate arrays as the server has them: `sets` lists of `count` uint8 [224, 224, 3]."""
    choose = np.random.default_rng(0)
    return [[choose.integers(0, 256, _SHAPE, np.uint8) for _ in range(count)] for _ in range(sets)]


def measure(
    running: Sequence[Entrant], sizes: tuple[int, ...], rounds: int, is_cuda: bool, console: Console
) -> None:
    """Times every engine and size in turn; the first round, in which engines settle, is dropped."""
    sources = pictures(_SOURCES, max(sizes))
    for number in range(rounds + 1):
        console.print(f"round {number} of {rounds}", highlight=False)
        for each in running:
            for size in sizes:
                _turn(each, size, [source[:size] for source in sources], is_cuda, counts=number > 0)


def _turn(each: Entrant, size: int, sources: Sequence[Pictures], is_cuda: bool, counts: bool) -> None:
    assert each.engine is not None
    if each.reason:
        return
    try:
        ms = _infer_ms(each.engine, sources, least=5 if is_cuda else 1)
        alone = device_ms(each.engine, size) if is_cuda else None
    except RuntimeError as error:
        each.reason = f"failed at {size}: {(str(error).splitlines() or [''])[0]}"
        return
    if counts:
        each.infer_ms.setdefault(size, []).append(ms)
        if alone is not None:
            each.device_ms.setdefault(size, []).append(alone)


def _infer_ms(engine: Engine, sources: Sequence[Pictures], least: int) -> float:
    """Median milliseconds of `least` calls or more, by the host's clock: `infer` waits for the device."""
    times: list[float] = []
    while len(times) < least or sum(times) < _TURN_S:
        began = time.perf_counter()
        engine.infer(sources[len(times) % len(sources)])
        times.append(time.perf_counter() - began)
    return median(times) * 1000
