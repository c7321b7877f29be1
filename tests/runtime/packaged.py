"""What packages hold: an object that does what it is told, and one that does it while it is loaded."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.package import PackageExporter


class Told:
    """Does what its first argument says; keeps state."""

    def __init__(self):
        self.calls, self.kept = 0, []

    def __call__(self, word, *more):
        self.calls += 1
        return getattr(self, word)(*more)

    def count(self):
        return self.calls

    def add(self, x, y):
        return {"sum": x + y, "parts": [x.t(), (1, "a", None)]}

    def keep(self, x):
        self.kept.append(x)
        return self.kept[0]

    def prints(self):
        print("hello from the package")
        print("WARNING:careful", file=sys.stderr, flush=True)
        sys.stdout.flush()

    def raises(self):
        raise ValueError("it was told\nin two lines")

    def exits(self):
        sys.exit(3)

    def dies(self):
        os._exit(4)

    def forks(self):
        os.fork()
        return "once"

    def forks_and_raises(self):
        if not os.fork():
            raise ValueError("in the other process")
        return "once"

    def returns(self, what):
        return {
            "set": {1},
            "complex": torch.ones(1, dtype=torch.complex64),
            "keys": {1: 2},
            "meta": torch.ones(1, device="meta"),
        }[what]

    def circle(self):
        found = []
        found.append(found)
        return found


class OnLoad:
    """Does something while it is unpickled; then it answers with 1."""

    def __init__(self, what, *more):
        self.what, self.more = what, more

    def __call__(self, *arguments):
        return 1

    def __reduce__(self):
        return _loaded, (self.what, *self.more)


def _loaded(what, *more):
    if what == "exit":
        sys.exit(3)
    if what == "raise":
        raise ValueError("not today\nsecond line")
    if what == "fork":
        os.fork()
    if what == "touch":
        Path(more[0]).touch()
    return OnLoad(what, *more) if what != "nothing" else 7


def write(file, found, pickle=("model", "model.pkl")):
    """Writes a package with one object."""
    with warnings.catch_warnings(), PackageExporter(file) as exporter:
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")
        exporter.extern(["torch.**", "numpy.**", "sys"])
        exporter.intern("tests.**")
        exporter.save_pickle(*pickle, found)
    return file


ONES = np.ones((1, 2), np.float32)
