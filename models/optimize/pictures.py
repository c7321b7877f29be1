"""What a candidate and the reference are shown: photos, and seeded pictures that no photo resembles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from models.errors import PictureError
from models.preprocess import Pixels, Preprocessor

SAMPLES = Path(__file__).parents[2] / "images"  # the repository's sample pictures


def load_pictures(folder: Path, preprocessor: Preprocessor, limit: int = 512) -> list[Image.Image]:
    """Decodes the pictures directly in `folder`, by name; what is no picture is skipped.

    Returns:
        Upright pictures of mode RGB, at most `limit`; empty when the folder is missing.
    """
    pictures: list[Image.Image] = []
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if len(pictures) == limit:
            break
        try:
            pictures.append(preprocessor.open(file.read_bytes()).convert("RGB"))
        except (PictureError, OSError):
            continue
    return pictures


def synthetic_pixels(crop_size: int, count: int, seed: int = 0) -> Pixels:
    """Black, white, then by turns fine noise and soft coloured shapes.

    Returns:
        uint8 [count, crop_size, crop_size, 3].
    """
    generator = np.random.default_rng(seed)
    pixels = np.zeros((count, crop_size, crop_size, 3), np.uint8)
    pixels[1:2] = 255
    for number in range(2, count):
        side = crop_size if number % 2 == 0 else min(4, crop_size)
        noise = Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8))
        pixels[number] = np.asarray(noise.resize((crop_size, crop_size), Image.Resampling.BICUBIC))
    return pixels
