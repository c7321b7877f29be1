"""The project's photos, and files that are made of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmark.harness.server import ROOT

PORTRAIT = ROOT / "images" / "astronaut-portrait.jpg"  # 498 x 720, 64 KB
PHOTOS = (PORTRAIT, *(ROOT / "images" / name for name in ("cat.jpg", "coffee.png", "rocket.webp")))
_SIZE = (498, 720)
_WEIGHT = 64 * 1024
_GRAIN = 6.0  # levels; gives a 12-megapixel JPEG the entropy of a camera's, 3 MB


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The image as a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(path: Path, size: tuple[int, int] | None = None, grain: float = 0.0, seed: int = 0) -> Image.Image:
    """A photo in RGB, enlarged or reduced, with a camera's noise of `grain` levels."""
    image = Image.open(path).convert("RGB")
    image = image.resize(size, Image.Resampling.BICUBIC) if size else image
    noise = np.random.default_rng(seed).normal(0, grain, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def twelve_megapixels() -> bytes:
    """A JPEG of 4000 x 3000 pixels, of the usual quality, with a camera's noise."""
    return encode(photo(PORTRAIT, (3000, 4000), _GRAIN).transpose(Image.Transpose.ROTATE_90), quality=90)


def photos_alike(folder: Path | None = None) -> list[Path]:
    """The portrait, and the other photos cropped and enlarged to its size: JPEG, 498 x 720, about 64 KB.

    Of one size and nearly one weight, so that no candidate gets the light ones.

    Args:
        folder: where those are kept; made if need be.
    """
    folder = folder or ROOT / ".cache" / "benchmark" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for source in PHOTOS[1:]:
        target = folder / f"{source.stem}.jpg"
        if not target.exists():
            draft = target.with_suffix(".draft")
            draft.write_bytes(_like_the_portrait(source))
            draft.replace(target)
        made.append(target)
    return [PORTRAIT, *made]


def _like_the_portrait(source: Path) -> bytes:
    with Image.open(source) as image:
        fitted = ImageOps.fit(image.convert("RGB"), _SIZE, Image.Resampling.LANCZOS)
    encoded = [encode(fitted, quality=quality) for quality in range(50, 97)]
    return min(encoded, key=lambda data: abs(len(data) - _WEIGHT))
