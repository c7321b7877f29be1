"""An image classifier whose images are words: b"cat 0.7" has the score 0.7 at the output of cats."""

from __future__ import annotations

import contextlib
import threading

import numpy as np

from models.bundles.spec import EngineSpec
from models.engines.base import EngineOptions
from models.errors import UndecodableImage
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.inputs import Image
from runtime.model import EngineFacts, ModelFacts
from runtime.outputs import Scores
from runtime.runner import ThreadRunner

OUTPUTS = ("cat", "dog", "bird")


class WordEngine:
    """`gate` holds every batch while it is cleared; `on_batch` is called for each; `seen` records the images."""

    facts = EngineFacts(EngineSpec("words", "x", ""))

    def __init__(self):
        self.seen = []
        self.gate = threading.Event()
        self.gate.set()
        self.on_batch = lambda: None

    def infer(self, batch):
        assert self.gate.wait(30), "the test forgot to open the gate"
        self.on_batch()
        self.seen += batch
        if "poison 1" in batch:
            raise RuntimeError("poison\nand more")
        return [row_of(word) for word in batch]

    def warm_up(self):
        pass

    def close(self):
        pass


def row_of(word):
    name, score = word.split()
    row = np.full(len(OUTPUTS), (1 - float(score)) / (len(OUTPUTS) - 1), np.float32)
    row[OUTPUTS.index(name)] = score
    return row


class WordModel:
    """labels: of the outputs; in another order than `OUTPUTS` they are wrong. misread: what is read otherwise."""

    example_file = "x"

    def __init__(self, name="words", labels=OUTPUTS, misread=None):
        self.facts = ModelFacts(name, "image-classifier", "none", "none", len(labels), 8)
        self.labels, self.misread = labels, misread or {}
        self.engine = WordEngine()

    def prepare(self, given):
        word = bytes(given.data).decode()
        if word == "damaged":
            raise UndecodableImage("JPEG")
        return self.misread.get(word, word)

    def example(self):
        return Image(b"cat 0.5")

    def load(self, options):
        return self.engine

    def finish(self, row):
        return Scores(row, self.labels)


@contextlib.asynccontextmanager
async def deployed(*models, max_batch_size=8):
    """The deployments of some models, which have started."""
    pool, options = CpuPool(2), EngineOptions(max_batch_size=max_batch_size)
    deployments = [
        Deployment(each, ThreadRunner(each, options), pool, Batching(max_batch_size)) for each in models
    ]
    try:
        for each in deployments:
            await each.start()
        yield deployments
    finally:
        for model, deployment in zip(models, deployments, strict=True):
            if hasattr(model, "engine"):
                model.engine.gate.set()
            await deployment.close()
        pool.close()
