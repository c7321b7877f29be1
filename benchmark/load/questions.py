"""Images with known answers: what the engine says when it is alone in this process, without a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.harness.photos import PHOTOS, encode
from benchmark.load.plan import Question, Rules
from models.bundles.bundle import ModelBundle
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.images.preprocess import Preprocessor

NamedImage = tuple[str, bytes]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_CROPS = 200  # of the photos, at most
_DIGITS = tuple("0123456789")


def images_for(bundle: ModelBundle, folder: Path | None) -> Iterator[NamedImage]:
    """Images to choose from: a folder's, else digits for a model that reads digits, else pieces of photos.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    if folder is not None:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise FileNotFoundError(f"{folder}: holds no JPEG, PNG or WebP file")
        return ((file.name, file.read_bytes()) for file in files)
    return _digits() if tuple(bundle.labels) == _DIGITS else _pieces()


def _digits() -> Iterator[NamedImage]:
    from examples.digits.measure import sample_images  # needs scikit-learn

    for number, (data, digit) in enumerate(sample_images(held_out=True, smallest=0.4)):
        yield f"digit {digit}, sample {number}", data


def _pieces() -> Iterator[NamedImage]:
    """Rectangles of the project's photos as JPEG, every second one mirrored."""
    photos = [Image.open(file).convert("RGB") for file in PHOTOS]
    choose = np.random.default_rng(0)
    for number in range(_CROPS):
        photo = photos[number % len(photos)]
        width, height = (int(choose.uniform(0.35, 1) * side) for side in photo.size)
        left, top = int(choose.integers(photo.width - width + 1)), int(choose.integers(photo.height - height + 1))
        piece = photo.crop((left, top, left + width, top + height))
        if number % 2:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        name = PHOTOS[number % len(photos)].name
        yield f"{name} at {left},{top} {width}x{height}", encode(piece, quality=90)


def ask_engine(bundle: ModelBundle, images: Iterable[NamedImage]) -> Iterator[Question]:
    """The images with the scores of the bundle's engine, each computed alone."""
    preprocessor = Preprocessor(bundle.spec.preprocess)
    engine = load_engine(bundle, EngineOptions(intra_op_threads=1, max_batch_size=1))
    try:
        for name, data in images:
            yield Question(name, data, tuple(engine.infer([preprocessor(data)])[0].tolist()))
    finally:
        engine.close()


def choose(candidates: Iterable[Question], count: int, rules: Rules, keep_all: bool) -> tuple[list[Question], int]:
    """Takes questions whose answers can be told apart: one's answer would be wrong for every other.

    Args:
        candidates: in the order of preference.
        count: most that are taken.
        rules: decide what can be told apart, with twice their tolerance.
        keep_all: fill up with others when there are not enough.

    Returns:
        The questions, and how many of them, the first ones, are different from each other.
    """
    coarse = Rules(rules.labels, rules.top_k, 2 * rules.tolerance, 2 * rules.gap)
    different: list[Question] = []
    others: list[Question] = []
    for each in candidates:
        answer = each.predictions(rules)
        if all(known.fault(answer, coarse) for known in different):
            different.append(each)
        elif len(others) < count:
            others.append(each)
        if len(different) == count:
            break
    fill = others[: count - len(different)] if keep_all or len(different) < 2 else []
    return different + fill, len(different)
