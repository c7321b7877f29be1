"""A model of integers: doubles them, on this thread or on the runner's."""

from __future__ import annotations

import threading

from models.bundles.spec import EngineSpec
from runtime.model import EngineFacts, ModelFacts


class Doubler:
    """The engine. `gate` holds every batch while it is cleared; `batches` records them."""

    facts = EngineFacts(EngineSpec("doubler", "x", ""), ("watch out",))

    def __init__(self):
        self.batches, self.calls = [], []
        self.gate = threading.Event()
        self.gate.set()

    def infer(self, batch):
        assert self.gate.wait(30), "the test forgot to open the gate"
        self.calls.append(threading.current_thread().name)
        self.batches.append(list(batch))
        if "poison" in batch:
            raise RuntimeError("poison")
        return [2 * item for item in batch]

    def warm_up(self):
        self.calls.append("warm_up")

    def close(self):
        self.calls.append("close")


class DoublerModel:
    """The model: inputs are integers, which prepare makes one larger."""

    example_file = "x.txt"

    def __init__(self, name="double", error=None, version="1"):
        self.facts = ModelFacts(name, "doubler", "none", "none", 1, 8, version=version)
        self.engine, self.error = Doubler(), error
        self.prepared = []

    def prepare(self, given):
        self.prepared.append(threading.current_thread().name)
        if given == "broken":
            raise ValueError("broken")
        return given if given == "poison" else given + 1

    def example(self):
        return 0

    def load(self, options):
        if self.error:
            raise self.error
        return self.engine

    def finish(self, row):
        return f"got {row}"

    def describe(self, engine):
        return self.facts.name

    def document(self, engine, whole):
        return {"name": self.facts.name}
