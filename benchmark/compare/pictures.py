"""The photos that are uploaded: of one size and nearly one weight, so that no contestant gets the light ones."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

from benchmark.server_process import ROOT

PORTRAIT = ROOT / "images" / "astronaut-portrait.jpg"
_OTHERS = ("cat.jpg", "coffee.png", "rocket.webp")
_SIZE = (498, 720)
_WEIGHT = 64 * 1024


def photos(folder: Path | None = None) -> list[Path]:
    """The portrait, and the project's other photos cropped and enlarged to its size: JPEG, 498 x 720, about 64 KB.

    Args:
        folder: where those are kept; made if need be.
    """
    folder = folder or ROOT / ".cache" / "benchmark" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name in _OTHERS:
        target = folder / f"{Path(name).stem}.jpg"
        if not target.exists():
            draft = target.with_suffix(".draft")
            draft.write_bytes(_as_photo(ROOT / "images" / name))
            draft.replace(target)
        made.append(target)
    return [PORTRAIT, *made]


def _as_photo(source: Path) -> bytes:
    with Image.open(source) as image:
        fitted = ImageOps.fit(image.convert("RGB"), _SIZE, Image.Resampling.LANCZOS)
    encoded = [_jpeg(fitted, quality) for quality in range(50, 97)]
    return min(encoded, key=lambda data: abs(len(data) - _WEIGHT))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
