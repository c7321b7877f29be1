"""The real server with a model that costs nothing: `python -m benchmark.harness.trivial_server --core 0`.

All is as in a worker of `python -m server`, its options too, but for the preprocessor, whose pixels are a hash of
the file's bytes, and the engine, which makes scores of the hash: for measuring the way to a model and back.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.harness.server import ROOT, ServerProcess
from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec, ModelSpec, PreprocessSpec
from models.engines import ENGINES
from models.engines.base import Batch, EngineOptions, Probabilities
from models.images.preprocess import Encoded, Pixels, Preprocessor

_MODULE = "benchmark.harness.trivial_server"
_KIND = "hash"
_FOLDER = ROOT / ".cache" / "trivial-model"
_CLASSES = 10
_SIDE = 2  # 2 * 2 pixels of 3 bytes hold the hash
_SPREAD = 0x9E3779B97F4A7C15F39CC061  # odd, so that different hashes stay different


class TrivialServer(ServerProcess):
    """It in a process of its own; a context manager that ends it."""

    def __init__(self, *options: str) -> None:
        """Starts it on a free port; `options` are those of the command line."""
        super().__init__(*options, module=_MODULE)


def hash_pixels(data: Encoded) -> Pixels:
    """A hash of the bytes, in place of an image's pixels: uint8 [2, 2, 3]."""
    spread = (zlib.crc32(data) * _SPREAD) & ((1 << 96) - 1)
    return np.frombuffer(spread.to_bytes(12, "little"), np.uint8).reshape(_SIDE, _SIDE, 3)


class HashEngine:
    """Makes scores of the hash: one byte is one class.

    Attributes:
        item_s: seconds that it sleeps per item, as if another device computed.
    """

    item_s = 0.0

    def __init__(self, bundle: ModelBundle, options: EngineOptions) -> None:
        most = options.max_batch_size or 32
        self.spec = dataclasses.replace(bundle.spec.engine, device="cpu", max_batch_size=most)
        self.num_classes = bundle.spec.num_classes

    def infer(self, batch: Batch) -> Probabilities:
        """uint8 [N, 2, 2, 3] -> float32 [N, num_classes]."""
        if self.item_s:
            time.sleep(self.item_s * len(batch))
        scores = np.array(batch).reshape(len(batch), -1)[:, -self.num_classes :].astype(np.float32) + 1
        probabilities: Probabilities = scores / scores.sum(axis=1, keepdims=True)
        return probabilities

    def warm_up(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


load = HashEngine  # what `models.engines.load_engine` calls


def trivial_bundle(folder: Path | None = None) -> ModelBundle:
    """Writes the bundle; without a folder only its facts are left. Its engine's file is empty of meaning."""
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return trivial_bundle(Path(temporary))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hash.bin").write_bytes(b"no weights\n")
    geometry = PreprocessSpec(_SIDE, _SIDE, "nearest", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    engine = EngineSpec(_KIND, "hash.bin", "", device="any")
    spec = ModelSpec("hash", "none", _CLASSES, "labels.json", geometry, engine)
    return ModelBundle.write(folder, spec, tuple(f"class {number}" for number in range(_CLASSES)))


def trivial_scores(data: bytes) -> tuple[float, ...]:
    """The scores that the trivial server gives to a file, one per class."""
    return tuple(_engine().infer([hash_pixels(data)])[0].tolist())


@cache
def _engine() -> HashEngine:
    return HashEngine(trivial_bundle(), EngineOptions())


def _hash_instead(_: Preprocessor, data: Encoded, *stop: object) -> Pixels:
    return hash_pixels(data)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server, in this process alone."""
    from server.__main__ import main as serve

    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument("--core", type=int, help="the only core that it may use; default: all")
    parser.add_argument("--item-ms", type=float, default=0.0, help="that the engine sleeps per image")
    own, options = parser.parse_known_args(arguments)
    # Of the module that the engine is loaded from, which this one is not when it is run.
    import_module(_MODULE).HashEngine.item_s = own.item_ms / 1000
    if own.core is not None:
        os.sched_setaffinity(0, {own.core})
    trivial_bundle(_FOLDER)
    ENGINES[_KIND] = _MODULE
    preprocessor: Any = Preprocessor
    preprocessor.__call__ = _hash_instead  # of the class, so that every instance hashes
    return serve(["--model", str(_FOLDER), "--workers", "1", *options], alone=True)


if __name__ == "__main__":
    sys.exit(main())
