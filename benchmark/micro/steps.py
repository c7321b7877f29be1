"""The steps from a JPEG's bytes to the model's pixels, each on its own, and the ways that were not taken."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision import io as torchvision_io
from torchvision.transforms import functional
from torchvision.transforms._presets import ImageClassification

from models.bundles.spec import IMAGENET
from models.images.geometry import Region, crop_spans
from models.images.jpeg import decode_jpeg, decoder
from models.images.jpeg_file import read_jpeg
from models.images.preprocess import Preprocessor
from models.images.resize import reads, resize_crop

try:
    import simplejpeg  # type: ignore[import-untyped,import-not-found,unused-ignore]
except ImportError:
    simplejpeg = None

Steps = dict[str, Callable[[], Any]]

WHOLE = "Preprocessor: everything"
UNSCALED = "Preprocessor: everything, --no-scaled-decode"
PRESET = "torchvision's preset on a PIL image: everything"
_PARTS = (1, 2, 4, 8)  # of a JPEG's size
FULL = "Pillow: full decode and resize"


def steps(data: bytes) -> Steps:
    """What is timed for a JPEG, by name."""
    opened = _open(data)
    opened.load()
    scaled, unscaled = Preprocessor(IMAGENET), Preprocessor(IMAGENET, scaled_decode=False)
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    preset = ImageClassification(crop_size=IMAGENET.crop_size, resize_size=IMAGENET.resize_size)
    return {
        "Pillow: open, header": lambda: _open(data),
        **{f"Pillow: decode 1/{part}": partial(_drafted, data, part) for part in _PARTS},
        **(_by_simplejpeg(data, *opened.size) if simplejpeg else {}),
        **(_by_region(data, opened) if decoder() == "jpeg_region" else {}),
        "torchvision: decode": lambda: torchvision_io.decode_jpeg(tensor, torchvision_io.ImageReadMode.RGB),
        "Pillow to numpy": lambda: np.asarray(opened),
        **_resizes(opened),
        FULL: lambda: functional.resize(_drafted(data, 1), [IMAGENET.resize_size]),
        WHOLE: lambda: scaled(data),
        UNSCALED: lambda: unscaled(data),
        PRESET: lambda: preset(_open(data)),
    }


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("JPEG",))


def _drafted(data: bytes, part: int) -> Image.Image:
    image = _open(data)
    if part > 1:
        image.draft(None, (image.width // part, image.height // part))
    image.load()
    return image


def _by_simplejpeg(data: bytes, width: int, height: int) -> Steps:
    return {
        f"simplejpeg: decode 1/{part}": partial(
            simplejpeg.decode_jpeg,
            data,
            min_height=-(-height // part),
            min_width=-(-width // part),
            min_factor=float(part),
        )
        for part in _PARTS
    }


def _by_region(data: bytes, opened: Image.Image) -> Steps:
    region = Region(1, *reads(*crop_spans(*opened.size, IMAGENET), IMAGENET.interpolation))
    file = read_jpeg(data)
    return {"jpeg_region: decode what the crop needs": lambda: decode_jpeg(file, data, region)}


def _resizes(opened: Image.Image) -> Steps:
    pixels = np.array(opened)
    across, down = crop_spans(opened.width, opened.height, IMAGENET)
    (left, right), (top, bottom) = across.ends(), down.ends()
    boxed = partial(opened.resize, (across.kept, down.kept), Image.Resampling.BILINEAR, (left, top, right, bottom))
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    size = [down.resized, across.resized]
    return {
        "Pillow: resize": lambda: functional.resize(opened, [IMAGENET.resize_size]),
        "Pillow: resize of the crop (box)": boxed,
        "Pillow: resize of the crop, reducing_gap=2": partial(boxed, reducing_gap=2.0),
        "torch uint8: resize": partial(interpolate, batch, size, mode="bilinear", antialias=True),
        "torch uint8: resize of the crop, in two passes": lambda: resize_crop(pixels, across, down, "bilinear"),
    }
