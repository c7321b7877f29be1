"""A candidate at work: built, loaded from its files as it will be served, asked and timed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.bundles.bundle import ModelBundle
from models.bundles.labels import Labels
from models.bundles.spec import EngineSpec, ModelSpec
from models.engines import load_engine
from models.engines.base import Engine, EngineOptions, Probabilities
from models.errors import EngineError, ModelError
from models.images.preprocess import Pixels
from models.optimize.candidates import Candidate, Job

LABELS_FILE = "labels.json"


class Setting(NamedTuple):
    """How many cores an engine may use, and how."""

    threads: int
    streams: int = 1

    def __str__(self) -> str:
        if self.streams > 1:
            return f"{self.streams} streams"
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Build:
    """What came out of a candidate.

    Attributes:
        engine: its spec, hashes filled in.
        seconds: that the build took.
        megabytes: of its files.
    """

    engine: EngineSpec
    seconds: float
    megabytes: float


class Contestant:
    """One candidate in a folder of its own. Lives in this process or, better, in one of its own (`isolated`)."""

    def __init__(self, candidate: Candidate, job: Job, architecture: str, labels: Labels, folder: Path) -> None:
        self._candidate = candidate
        self._job = job
        self._architecture = architecture
        self._labels = labels
        self._folder = folder
        self._bundle: ModelBundle | None = None
        self._engines: dict[Setting, Engine] = {}

    def pid(self) -> int:
        """Of the process that it lives in."""
        return os.getpid()

    def build(self) -> Build:
        """Writes the engine's files. Raises ModelError, in one line, whatever went wrong."""
        began = time.perf_counter()
        try:
            engine = self._candidate.build(self._job, self._folder)
        except ModelError:
            raise
        # Compilers of programs of users: any exception may come out of them.
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise EngineError(f"cannot be built ({type(error).__name__}: {first[:200]})") from None
        seconds = time.perf_counter() - began
        spec = ModelSpec(
            name=self._architecture,
            architecture=self._architecture,
            num_classes=len(self._labels),
            labels=LABELS_FILE,
            preprocess=self._job.preprocess,
            activation=self._job.activation,
            engine=engine,
        )
        self._bundle = ModelBundle.write(self._folder, spec, self._labels)
        files = (self._folder / name for name in (engine.file, *engine.companions))
        return Build(self._bundle.spec.engine, seconds, sum(file.stat().st_size for file in files) / 1e6)

    def scores(self, pixels: Pixels, setting: Setting) -> Probabilities:
        """The engine's answers, in batches of changing size, so that a size that is wrong shows.

        Args:
            pixels: uint8 [N, crop_size, crop_size, 3].
            setting: threads and streams.

        Returns:
            float32 [N, num_classes].
        """
        with _engine_errors():
            return engine_scores(self._engine(setting), pixels)

    def round(self, setting: Setting, sizes: tuple[int, ...]) -> dict[int, float]:
        """Times one call of `Engine.infer` per batch size, copies included: milliseconds."""
        side = self._job.preprocess.crop_size
        pixels = np.random.default_rng(0).integers(0, 256, (max(sizes), side, side, 3), np.uint8)
        measured = {}
        with _engine_errors():
            engine = self._engine(setting)
            for size in sizes:
                began = time.perf_counter()
                engine.infer(pixels[:size])
                measured[size] = (time.perf_counter() - began) * 1000
        return measured

    def close(self) -> None:
        """Frees the engines; the files stay."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def _engine(self, setting: Setting) -> Engine:
        if setting not in self._engines:
            assert self._bundle is not None, "build() comes first"
            options = EngineOptions(
                self._candidate.device,
                setting.threads,
                setting.streams,
                self._job.max_batch_size,
                self._job.batch_sizes,
            )
            self._engines[setting] = load_engine(self._bundle, options)
            self._engines[setting].warm_up()
        return self._engines[setting]


@contextmanager
def _engine_errors() -> Iterator[None]:
    """Whatever a backend raises becomes an EngineError of one line, which every process can unpickle."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise EngineError(f"does not run ({type(error).__name__}: {first[:200]})") from None


def engine_scores(engine: Engine, pixels: Pixels) -> Probabilities:
    """uint8 [N, crop, crop, 3] -> float32 [N, num_classes], in batches of 1 to 8 by turns."""
    answers: list[Probabilities] = []
    start = 0
    while start < len(pixels):
        size = min(len(answers) % engine.spec.max_batch_size + 1, 8)
        answers.append(engine.infer(pixels[start : start + size]))
        start += size
    return np.concatenate(answers)
