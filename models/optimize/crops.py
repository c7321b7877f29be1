"""Many different views of a few photos."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from models.optimize.image_set import EncodedImage

_SMALLEST = 0.5  # of the photo's short side
_WIDEST = 4 / 3  # width to height, and height to width
_QUALITY = 95  # of the JPEGs; their whole purpose is to be decoded again


def crops(files: Sequence[Path], count: int, seed: int = 0) -> list[EncodedImage]:
    """`count` crops of each photo: anywhere, of half its short side and more, every other one mirrored.

    The same every time.
    """
    found = []
    for number, file in enumerate(files):
        generator = random.Random(f"{seed}-{number}")
        with Image.open(file) as opened:
            photo = opened.convert("RGB")
        found += [EncodedImage(_crop(photo, generator, index % 2 == 1)) for index in range(count)]
    return found


def _crop(photo: Image.Image, generator: random.Random, mirrored: bool) -> bytes:
    side = generator.uniform(_SMALLEST, 1) * min(photo.size)
    stretch = _WIDEST ** generator.uniform(-0.5, 0.5)
    width = round(min(photo.width, side * stretch))
    height = round(min(photo.height, side / stretch))
    left, top = generator.randint(0, photo.width - width), generator.randint(0, photo.height - height)
    crop = photo.crop((left, top, left + width, top + height))
    if mirrored:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stream = io.BytesIO()
    crop.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()
