"""How well a bundle reads digits: whole images, as files, through the preprocessing and the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from examples.digits.digits import DIGIT_SHARE, Look, draw, encode, load_samples
from examples.digits.strokes import draw_many
from models.bundles.bundle import ModelBundle
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.images.preprocess import Preprocessor

Sample = tuple[bytes, int]  # a file and the digit that it shows

_BATCH = 32
_SIZES = ((40, 40), (64, 64), (96, 80), (160, 160), (280, 280), (320, 240), (600, 600))
_FILLS = (0.5, 0.7, 0.85, 1.0)
_SHIFTS = ((0.0, 0.0), (0.5, -0.5), (-0.7, 0.4))
_SHARPNESS = (1.0, 1.25, 1.5, 1.75, 2.0)
# No two of these lengths have a common factor, so every combination occurs.
_STROKES, _STROKES_SEED, _STROKES_SIDE = 500, 20_000, 128

_MEASURED = (
    "end to end on PNG files through preprocessing and engine: each held-out sample dark on light and light on "
    "dark, enlarged to images of 40 to 600 pixels, the digit {smallest:.0%} to 80% of their height, centred and "
    "off centre, with soft and sharper edges; strokes: drawings by examples/digits/strokes.py with another seed "
    "than in training"
)


def sample_images(held_out: bool, smallest: float = 0) -> Iterator[Sample]:
    """Every sample twice, dark on light and light on dark, as a PNG whose look varies with its number.

    Args:
        held_out: those that no training has seen, or the others.
        smallest: height of the smallest digits as a share of the image's short side; 0.4 if it is less.
    """
    inks, digits = load_samples(held_out)
    for number, (ink, digit) in enumerate(zip(inks, digits, strict=True)):
        for white_on_black in (False, True):
            yield encode(draw(ink, _look(number, white_on_black, smallest))), int(digit)


def drawn_images(smallest: float = 0) -> Iterator[Sample]:
    """Drawings by `examples.digits.strokes` with a seed that training does not use, half of them light on dark."""
    inks, digits = draw_many(_STROKES, _STROKES_SIDE, _STROKES_SEED)
    for number, (ink, digit) in enumerate(zip(inks, digits, strict=True)):
        yield encode(draw(ink, _look(number, number // 10 % 2 == 1, smallest))), int(digit)


def _look(number: int, white_on_black: bool, smallest: float) -> Look:
    fills = [fill for fill in _FILLS if fill * DIGIT_SHARE >= smallest]
    return Look(
        _SIZES[number % len(_SIZES)],
        fills[number % len(fills)],
        _SHIFTS[number % len(_SHIFTS)],
        white_on_black,
        _SHARPNESS[number % len(_SHARPNESS)],
    )


def fidelity(bundle: ModelBundle) -> dict[str, float | str]:
    """What a bundle says of its own accuracy in `model.json`."""
    smallest = max(bundle.spec.source["smallest_digit"], DIGIT_SHARE * _FILLS[0])
    heldout, heldout_images = accuracy(bundle, sample_images(True, smallest))
    strokes, stroke_images = accuracy(bundle, drawn_images(smallest))
    return {
        "heldout_accuracy": round(heldout, 4),
        "heldout_images": heldout_images,
        "strokes_accuracy": round(strokes, 4),
        "strokes_images": stroke_images,
        "measured": _MEASURED.format(smallest=smallest),
    }


def accuracy(bundle: ModelBundle, samples: Iterable[Sample]) -> tuple[float, int]:
    """The share of images whose first label is the digit that they show, and how many images there were."""
    read = [predicted == digit for predicted, digit in predictions(bundle, samples)]
    return float(np.mean(read)), len(read)


def predictions(bundle: ModelBundle, samples: Iterable[Sample]) -> Iterator[tuple[int, int]]:
    """For each image the digit that is read and the digit that it shows."""
    preprocessor = Preprocessor(bundle.spec.preprocess)
    engine = load_engine(bundle, EngineOptions(device="cpu", max_batch_size=_BATCH))
    rest = iter(samples)
    while batch := list(islice(rest, _BATCH)):
        rows = engine.infer([preprocessor(data) for data, _ in batch])
        for row, (_, digit) in zip(rows, batch, strict=True):
            yield int(bundle.labels[row.argmax()]), digit
    engine.close()
