"""The pipeline of one model: decode, submit, top-k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from batching import Batcher, QueueFull
from models.bundles.bundle import ModelBundle
from models.bundles.labels import Labels
from models.engines.base import Engine, Probabilities
from models.images.preprocess import Encoded, Pixels, Preprocessor
from runtime.cpu_pool import DecodePool
from runtime.phases import PhaseClock

_FEW_CLASSES = 64  # to sort them all is faster up to there


@dataclass(slots=True)
class Prediction:
    """One label of a picture.

    Attributes:
        label: the class's name.
        score: its probability, 0 … 1.
        index: its position in the model's output.
    """

    label: str
    score: float
    index: int

    def to_json(self) -> dict[str, Any]:
        return {"label": self.label, "score": self.score, "index": self.index}


class Classified(NamedTuple):
    """A picture's answer: the predictions, best first, and the size of the batch it was in."""

    predictions: list[Prediction]
    batch_size: int

    def above(self, min_score: float) -> Classified:
        """Without the predictions that score less."""
        if not min_score:
            return self
        return self._replace(predictions=[each for each in self.predictions if each.score >= min_score])


class EngineOutputError(Exception):
    """The engine answered with something that is no probability."""


class Classifier:
    """One model, ready to serve: its preprocessor, its batcher and its engine.

    Attributes:
        bundle: what is served.
        engine: what runs it.
        batcher: gathers its pictures.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        engine: Engine,
        preprocessor: Preprocessor,
        batcher: Batcher[Pixels, Probabilities],
        decode_pool: DecodePool,
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.batcher = batcher
        self._preprocess = preprocessor
        self._decode_pool = decode_pool
        self._accepted = 0

    @property
    def preparation(self) -> str:
        """In one line, what an image becomes before the network, and what its outputs become behind it."""
        spec = self.bundle.spec
        default = " by default, --preprocess names another" if spec.source.get("preprocess") == "default" else ""
        activation = self.engine.spec.activation or spec.activation
        scores = "scores as the network gives them" if activation == "none" else f"scores by {activation}"
        return f"{spec.preprocess.describe()}{default}; {scores}"

    @property
    def accepted(self) -> int:
        """Pictures that were accepted and not yet answered."""
        return self._accepted

    def check_room(self) -> None:
        """Raises QueueFull when no further picture can be accepted."""
        if self._accepted >= self.batcher.queue_limit:
            raise QueueFull(self.batcher.drain_s(self._accepted))

    async def classify(
        self, data: Encoded, top_k: int, clock: PhaseClock, deadline: float | None = None
    ) -> Classified:
        """Classifies one encoded picture.

        Args:
            data: a JPEG, PNG or WebP file.
            top_k: how many predictions, 1 to num_classes.
            clock: is given the marks decode, queue and infer.
            deadline: `time.monotonic()` after which nobody waits for the answer.

        Raises:
            PictureError: the picture cannot be prepared.
            BatchingError: it was not taken, came too late, or the engine failed on it.
        """
        self.check_room()
        self._accepted += 1
        try:
            pixels = await self._decode_pool.run(partial(self._preprocess, data), deadline)
            clock.mark("decode")
            answer = await self.batcher.submit(pixels, deadline)
            clock.mark("queue", answer.started_at)
            clock.mark("infer")
            return Classified(best(answer.value, self.bundle.labels, top_k), answer.batch_size)
        finally:
            self._accepted -= 1


def best(probabilities: Probabilities, labels: Labels, top_k: int) -> list[Prediction]:
    """The `top_k` classes of one row (float32 [num_classes]), best first; equal scores by index."""
    indices: Sequence[int] = range(len(probabilities))
    if len(indices) > _FEW_CLASSES:  # sort those alone that can be among the best
        least = np.partition(probabilities, -top_k)[-top_k]
        candidates = np.flatnonzero(probabilities >= least)
        probabilities, indices = probabilities[candidates], candidates.tolist()
    scores = probabilities.tolist()
    # Python's sort keeps the order of equal ones, in reverse too.
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:top_k]
    return [Prediction(labels[indices[place]], scores[place], indices[place]) for place in order]


def infer_checked(engine: Engine, images: Sequence[Pixels]) -> list[Probabilities]:
    """Runs a batch, gives its rows, and refuses an answer with anything that is not finite.

    Raises:
        EngineOutputError: the batcher then finds out by halves which picture it was.
    """
    probabilities = engine.infer(images)
    if not np.isfinite(probabilities).all():
        raise EngineOutputError("the engine's answer holds a value that is not finite")
    return list(probabilities)
