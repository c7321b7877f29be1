"""How near photos that are scaled while they are decoded come to torchvision's pixels, to the level."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torchvision.transforms import functional  # type: ignore[import-untyped,unused-ignore]

from benchmark.micro.pictures import encode, photo
from models.bundles.spec import IMAGENET, PreprocessSpec
from models.images.geometry import Pixels
from models.images.preprocess import MARGIN, Preprocessor

SPECS = {
    "bilinear": IMAGENET,
    "bicubic": PreprocessSpec(256, 224, "bicubic", IMAGENET.mean, IMAGENET.std),
}
_SIDE = MARGIN * IMAGENET.resize_size * 1.02  # the short side that is just enough for a scale of 1

Row = dict[str, Any]


def compare(files: list[Path], scale: int) -> list[Row]:
    """A row for each interpolation: the service's pixels against torchvision's, of the same JPEG.

    Args:
        files: photos.
        scale: 1: as they are; 2, 4, 8: enlarged until they are just decoded at 1/scale of their size.
    """
    differences: dict[str, list[Pixels]] = {name: [] for name in SPECS}
    for data in _jpegs(files, scale):
        for name, spec in SPECS.items():
            got, wanted = Preprocessor(spec)(data).astype(int), _by_torchvision(data, spec)
            differences[name].append(np.abs(got - wanted).astype(np.uint8))
    return [_row(name, scale, np.stack(each)) for name, each in differences.items()]


def _jpegs(files: list[Path], scale: int) -> Iterator[bytes]:
    for file in files:
        image = photo(file)
        if scale > 1:
            factor = _SIDE * scale / min(image.size)
            image = photo(file, (round(image.width * factor), round(image.height * factor)))
        yield file.read_bytes() if scale == 1 else encode(image, quality=92)


def _by_torchvision(data: bytes, spec: PreprocessSpec) -> Pixels:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    mode = functional.InterpolationMode(spec.interpolation)
    resized = functional.resize(image, [spec.resize_size], mode, antialias=True)
    return np.asarray(functional.center_crop(resized, [spec.crop_size] * 2))


def _row(name: str, scale: int, differences: Pixels) -> Row:
    """differences: uint8 [photos, rows, columns, 3]"""
    return {
        "interpolation": name,
        "decoded_at": f"1/{scale}",
        "photos": len(differences),
        "mean_levels": round(float(differences.mean()), 3),
        "p99_levels": int(np.percentile(differences, 99)),
        "max_levels": int(differences.max()),
        "max_of_the_median_photo": int(np.median(differences.max(axis=(1, 2, 3)))),
    }
