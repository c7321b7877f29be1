"""scikit-learn's handwritten digits: the split, and a sample as an image file for upload."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DATASET = "scikit-learn load_digits: 1,797 samples of the UCI optical recognition of handwritten digits"
HELD_OUT_EVERY = 5
DIGIT_SHARE = 0.8  # height of a sample's digit in its square of ink, see load_samples

Ink = NDArray[np.float32]
Digits = NDArray[np.int64]


@dataclass(frozen=True)
class Look:
    """How a digit is put on an image.

    Attributes:
        size: width and height in pixels.
        fill: side of the ink's square as a share of the image's short side.
        shift: right and down from the centre, as a share of the room that is left beside the digit.
        white_on_black: light ink on a dark ground, or the other way round.
        sharpness: 1 leaves the soft edges of the enlargement, 3 is nearly a felt pen.
    """

    size: tuple[int, int]
    fill: float = 0.7
    shift: tuple[float, float] = (0.0, 0.0)
    white_on_black: bool = False
    sharpness: float = 1.0


def load_samples(held_out: bool) -> tuple[Ink, Digits]:
    """Returns one part of the samples: ink, float32 [N, 10, 10] in 0 … 1, and the digits, int64 [N].

    The samples are 8 by 8 and reach their borders; a ring of paper keeps the enlarged strokes from being cut flat.
    """
    from sklearn.datasets import load_digits  # takes two seconds, and is not needed for serving

    samples = load_digits()
    chosen = split(samples.target)[held_out]
    inks = np.pad(samples.images[chosen] / 16, ((0, 0), (1, 1), (1, 1)))
    return inks.astype(np.float32), samples.target[chosen].astype(np.int64)


def split(digits: Digits) -> tuple[Digits, Digits]:
    """Indices to train on and indices held out: of each digit every fifth sample, beginning with the first.

    The samples are stored writer by writer, so all writers are in both parts. With the last fifth held out
    instead, by writers that the training set does not have, the same training reads two points less.
    """
    held_out = np.zeros(len(digits), bool)
    for digit in range(10):
        held_out[np.flatnonzero(digits == digit)[::HELD_OUT_EVERY]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def enlarge(ink: Ink, side: int) -> Ink:
    """Ink of any square size -> float32 [side, side] in 0 … 1, bicubic."""
    enlarged = Image.fromarray(ink).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(enlarged).clip(0, 1)


def draw(ink: Ink, look: Look) -> Image.Image:
    """Draws ink, float32 [n, n] in 0 … 1, as a grey image (mode L)."""
    short, side = min(look.size), max(1, round(look.fill * min(look.size)))
    room = (short - side) / 2
    left = round((look.size[0] - side) / 2 + look.shift[0] * room)
    top = round((look.size[1] - side) / 2 + look.shift[1] * room)
    page = np.zeros((look.size[1], look.size[0]), np.float32)
    page[top : top + side, left : left + side] = (enlarge(ink, side) - 0.5) * look.sharpness + 0.5
    levels = (page.clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(levels if look.white_on_black else 255 - levels)


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    """The image as a file of `kind`: PNG, JPEG or WEBP."""
    stream = BytesIO()
    options = {"compress_level": 1} if kind == "PNG" else {"quality": 90}
    image.save(stream, kind, **options)
    return stream.getvalue()


# file name -> which of the held-out samples of its digit (a plain one), and how it looks
SAMPLES = {
    "digit-0-black-on-white.png": (5, Look((280, 280), 0.85, sharpness=2)),
    "digit-1-white-on-black.png": (3, Look((200, 200), 0.8, sharpness=2.5, white_on_black=True)),
    "digit-2-black-on-white.jpg": (3, Look((320, 240), 0.9, sharpness=2.5)),
    "digit-3-white-on-black.png": (8, Look((280, 280), 0.75, (0.3, -0.3), sharpness=2.5, white_on_black=True)),
    "digit-4-black-on-white.webp": (5, Look((240, 320), 0.8, sharpness=2.5)),
    "digit-5-white-on-black.jpg": (8, Look((400, 400), 0.75, sharpness=2.5, white_on_black=True)),
    "digit-6-soft-black-on-white.png": (9, Look((80, 80), 1.0)),
    "digit-7-white-on-black.webp": (5, Look((160, 160), 0.9, sharpness=2.5, white_on_black=True)),
    "digit-8-small-black-on-white.png": (0, Look((360, 360), 0.6, (-0.3, 0.2), sharpness=2.5)),
    "digit-9-soft-white-on-black.jpg": (1, Look((120, 120), 0.95, white_on_black=True)),
}
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}


def write_images(folder: Path) -> None:
    """Writes the held-out digits of `images/`."""
    inks, digits = load_samples(held_out=True)
    for name, (number, look) in SAMPLES.items():
        ink = inks[digits == int(name.split("-")[1])][number]
        (folder / name).write_bytes(encode(draw(ink, look), _KINDS[Path(name).suffix]))


def main() -> None:
    """Writes the images of digits in `images/`."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.digits", description=__doc__)
    parser.add_argument("--write-images", type=Path, required=True, metavar="FOLDER")
    write_images(parser.parse_args().write_images)


if __name__ == "__main__":
    main()
