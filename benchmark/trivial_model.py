"""A model that costs next to nothing, whose answer is a hash of the file's bytes: for measuring the way there."""

from __future__ import annotations

import dataclasses
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmark.load.known import Question
from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec, ModelSpec, PreprocessSpec
from models.engines.base import Batch, EngineOptions, Probabilities
from models.images.preprocess import Encoded, Pixels

KIND = "hash"
_CLASSES = 10
_SIDE = 2  # 2 * 2 pixels of 3 bytes hold the hash
_SPREAD = 0x9E3779B97F4A7C15F39CC061  # odd, so that different hashes stay different


class HashPreprocessor:
    """Takes the place of `models.images.preprocess.Preprocessor`: the pixels are a hash of the encoded bytes."""

    def __call__(self, data: Encoded) -> Pixels:
        """Returns uint8 [2, 2, 3]."""
        spread = (zlib.crc32(data) * _SPREAD) & ((1 << 96) - 1)
        return np.frombuffer(spread.to_bytes(12, "little"), np.uint8).reshape(_SIDE, _SIDE, 3)

    def warm_up(self) -> None:
        """Nothing to do."""


class HashEngine:
    """Makes scores of the hash: one byte is one class."""

    def __init__(self, bundle: ModelBundle, options: EngineOptions) -> None:
        self.spec = dataclasses.replace(
            bundle.spec.engine, device="cpu", max_batch_size=options.max_batch_size or 32
        )
        self.num_classes = bundle.spec.num_classes

    def infer(self, batch: Batch) -> Probabilities:
        scores = np.array(batch).reshape(len(batch), -1)[:, -self.num_classes :].astype(np.float32) + 1
        probabilities: Probabilities = scores / scores.sum(axis=1, keepdims=True)
        return probabilities

    def warm_up(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def load(bundle: ModelBundle, options: EngineOptions) -> HashEngine:
    """What `models.engines.load_engine` calls."""
    return HashEngine(bundle, options)


def write_bundle(folder: Path) -> ModelBundle:
    """Writes the bundle; its engine's file is empty of meaning."""
    (folder / "hash.bin").write_bytes(b"no weights\n")
    geometry = PreprocessSpec(_SIDE, _SIDE, "nearest", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    engine = EngineSpec(KIND, "hash.bin", "", device="any")
    spec = ModelSpec("hash", "none", _CLASSES, "labels.json", geometry, engine)
    return ModelBundle.write(folder, spec, tuple(f"class {number}" for number in range(_CLASSES)))


def trivial_bundle() -> ModelBundle:
    """The bundle's facts, for who only needs to know its answers; its folder is gone."""
    with tempfile.TemporaryDirectory() as folder:
        return write_bundle(Path(folder))


def trivial_questions(pictures: Iterable[tuple[str, bytes]]) -> Iterator[Question]:
    """The pictures with the scores that the hash gives them."""
    preprocess, engine = HashPreprocessor(), HashEngine(trivial_bundle(), EngineOptions())
    for name, data in pictures:
        yield Question(name, data, tuple(engine.infer([preprocess(data)])[0].tolist()))
