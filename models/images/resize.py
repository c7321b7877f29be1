"""Resize and centre crop in one step: only the pixels of the crop are computed.

Two ways to the same pixels: torch's resize of uint8 images, which was measured to be the fastest
(docs/pictures.md), and where it cannot, Pillow's `resize(box=…)`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from models.images.geometry import Pixels, Span

# How many output pixels far each filter looks.
_REACH = {"bilinear": 1, "bicubic": 2}
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# torch has no box: it computes an axis from where an output pixel and a source pixel begin together, which may be
# the image's border. In a long strip that would be many pixels without an effect.
_ELONGATED = 4
# From here on it makes a difference whether an image that is squashed is upright. Rounding alone gives less.
_UPRIGHT = 1.05


def resize_crop(
    pixels: Pixels,
    across: Span,
    down: Span,
    interpolation: str,
    transposed: bool = False,
    exactly: bool = False,
) -> Pixels:
    """Resizes and crops, antialiased.

    Args:
        pixels: [rows, columns, 1 or 3], from the image's first pixel on to the last that `reads` names. Those in
            front of what it names may be anything.
        across: what is kept of the width.
        down: what is kept of the height.
        interpolation: "nearest", "bilinear" or "bicubic".
        transposed: whether the upright image's rows are columns here. Of two passes, each of which rounds, the
            order shows; it is that of the upright image.
        exactly: what torchvision makes of an upright Pillow image, bit for bit: all of it is resized. Strips are
            resized as ever.

    Returns:
        [down.kept, across.kept, 1 or 3], which may be a view.
    """
    if exactly or not _suits_torch(across, down, interpolation, transposed):
        if transposed:
            return _by_pillow(pixels.swapaxes(0, 1), down, across, interpolation, exactly).swapaxes(0, 1)
        return _by_pillow(pixels, across, down, interpolation, exactly)
    axes = [(0, down), (1, across)]
    if _width_first(across, down, interpolation, transposed):
        axes.reverse()
    for axis, span in axes:
        pixels = _along(pixels, axis, span, interpolation)
    return pixels


@lru_cache(maxsize=1024)
def _width_first(across: Span, down: Span, interpolation: str, transposed: bool) -> bool:
    """Which axis of the stored image torch resizes first.

    The height first is faster, and bilinear is within a level either way. Bicubic overshoots and is clipped in
    between, which made up to 10 levels; torchvision takes the width first. In a strip that is squashed the long
    side comes first, as in Pillow: otherwise 1 x 50 million pixels would become hundreds of times 50 million.
    """
    if _is_squashed_strip(across, down):
        return across.ratio > down.ratio
    return (interpolation == "bicubic") != transposed


def _is_squashed_strip(across: Span, down: Span) -> bool:
    # Where the aspect is kept, both have one ratio. A long side that does not shrink takes no memory.
    short, long = min(across.ratio, down.ratio), max(across.ratio, down.ratio)
    return long > 1 and long > _ELONGATED * short


def _is_squashed_upright(across: Span, down: Span) -> bool:
    return down.ratio > _UPRIGHT * across.ratio


@lru_cache(maxsize=1024)  # photos come in few sizes
def reads(
    across: Span, down: Span, interpolation: str, transposed: bool = False, exactly: bool = False
) -> tuple[slice, slice]:
    """The columns and the rows of an image that count for what `resize_crop` returns."""
    if exactly or not _suits_torch(across, down, interpolation, transposed):
        return slice(0, math.ceil(across.length)), slice(0, math.ceil(down.length))
    return _read(across, interpolation), _read(down, interpolation)


def _read(span: Span, interpolation: str) -> slice:
    support = _support(span, interpolation)
    start = math.floor(span.ratio * span.first - support) - 1
    stop = math.ceil(span.ratio * (span.first + span.kept) + support) + 1
    return slice(max(0, start), min(stop, math.ceil(span.length)))


@lru_cache(maxsize=1024)
def _suits_torch(across: Span, down: Span, interpolation: str, transposed: bool) -> bool:
    lengths = across.resized, down.resized
    if _is_squashed_strip(across, down):
        return interpolation != "nearest"
    if interpolation == "nearest" or max(lengths) > _ELONGATED * min(lengths):
        return False
    # Pillow mostly takes the height first, and its own rule for that differs between versions.
    if interpolation == "bicubic":
        return not _is_squashed_upright(*((down, across) if transposed else (across, down)))
    # torch rounds the filter's weights to 16 bits, Pillow to 22, which tips values that lie exactly between two
    # levels. Where they are common, pixels were 2 levels off: at 5/4 20 of a million, elsewhere 1 of 10 million.
    return not (across.ties or down.ties)


def _along(pixels: Pixels, axis: int, span: Span, interpolation: str) -> Pixels:
    """Resizes one axis with torch, and crops it."""
    start, begin, scale = _beginning(span, interpolation)
    pixels = pixels[start:] if axis == 0 else pixels[:, start:]
    size = span.first + span.kept - begin
    # The operator passes over an axis whose size does not change, whatever its scale.
    resized = _interpolate(pixels, axis, size + (pixels.shape[axis] == size and scale != 1), scale, interpolation)
    crop = slice(span.first - begin, size)
    return resized[crop] if axis == 0 else resized[:, crop]


@lru_cache(maxsize=1024)
def _beginning(span: Span, interpolation: str) -> tuple[int, int, float]:
    """The source pixel and the output pixel to begin at, and output pixels per source pixel."""
    begin = span.begin(math.ceil(_support(span, interpolation) / span.ratio))
    return (span.ratio * begin).numerator, begin, float(1 / span.ratio)


def _support(span: Span, interpolation: str) -> Fraction:
    """How many source pixels to both sides of its centre count for an output pixel."""
    return _REACH[interpolation] * max(Fraction(1), span.ratio)


def _interpolate(pixels: Pixels, axis: int, size: int, scale: float, interpolation: str) -> Pixels:
    import torch  # takes seconds, and this module is imported by what needs none

    operator: Any = getattr(torch.ops.aten, f"_upsample_{interpolation}2d_aa")
    sizes, scales = list(pixels.shape[:2]), [1.0, 1.0]
    sizes[axis], scales[axis] = size, scale
    # In this order the strides are those of channels_last, for which there is a fast path.
    batch = torch.from_numpy(np.require(pixels, requirements="W"))[None].permute(0, 3, 1, 2)
    resized: Pixels = operator(batch, sizes, False, *scales)[0].permute(1, 2, 0).numpy()
    return resized


def _by_pillow(pixels: Pixels, across: Span, down: Span, interpolation: str, exactly: bool) -> Pixels:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    wide, high, resize = across.widened(), down.widened(), _at_once
    is_strip = max(across.resized, down.resized) > _ELONGATED * min(across.resized, down.resized)
    if (exactly and not is_strip) or _is_squashed_upright(across, down):  # the box could change Pillow's order
        wide, high = across.whole(), down.whole()
    elif interpolation == "bicubic":
        resize = _rows_first
    resized = np.asarray(resize(image, wide, high, _RESAMPLING[interpolation])).reshape(high.kept, wide.kept, -1)
    top, left = down.first - high.first, across.first - wide.first
    # Sliced by numpy: Pillow's own crop had an out-of-bounds write before 12.3, and has it in pillow-simd.
    return resized[top : top + down.kept, left : left + across.kept]


def _at_once(image: Image.Image, across: Span, down: Span, resampling: Image.Resampling) -> Image.Image:
    (left, right), (top, bottom) = across.ends(), down.ends()
    return image.resize((across.kept, down.kept), resampling, box=(left, top, right, bottom))


def _rows_first(image: Image.Image, across: Span, down: Span, resampling: Image.Resampling) -> Image.Image:
    # Pillow chooses the order by the shape of the box; for a whole image whose aspect is kept it is this one.
    (left, right), (start, stop) = across.ends(), down.ends()
    margin = math.ceil(_support(down, "bicubic")) + 1
    top, bottom = max(0, math.floor(start) - margin), min(image.height, math.ceil(stop) + margin)
    rows = image.resize((across.kept, bottom - top), resampling, box=(left, top, right, bottom))
    return rows.resize((across.kept, down.kept), resampling, box=(0, start - top, across.kept, stop - top))
