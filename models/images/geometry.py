"""Which pixels of an image the model sees: along each axis, and through the turn that sets it upright."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundles.spec import SQUASH, PreprocessSpec

Pixels = NDArray[np.uint8]

_WIDEN_AT_MOST = 64  # output pixels
_MANY_PHASES = 64  # of which few would have a small sum
_SMALL_SUM = 40


class Span(NamedTuple):
    """What is kept of one axis of an image that is resized.

    Attributes:
        length: source pixels; a fraction where the image was decoded at an eighth of its size, say.
        resized: pixels after the resize.
        first: of those, the first that is kept.
        kept: how many are kept.
    """

    length: Fraction
    resized: int
    first: int
    kept: int

    @property
    def ratio(self) -> Fraction:
        """Source pixels per output pixel."""
        return self.length / self.resized

    def mirrored(self) -> Span:
        """The same pixels, counted from the other end."""
        return self._replace(first=self.resized - self.first - self.kept)

    def whole(self) -> Span:
        """All of the axis."""
        return self._replace(first=0, kept=self.resized)

    def shrunk(self, scale: int) -> Span:
        """The same pixels of an image that was decoded at 1/scale of its size."""
        return self if scale == 1 else self._replace(length=self.length / scale)

    def ends(self) -> tuple[float, float]:
        """Where it begins and ends in source pixels."""
        stop = min(self.ratio * (self.first + self.kept), self.length)
        return float(self.ratio * self.first), float(stop)

    def begin(self, margin: int) -> int:
        """The last output pixel that is `margin` before `first` and begins where a source pixel begins, or 0."""
        grid = self.ratio.denominator
        return max(0, (self.first - margin) // grid * grid)

    def widened(self) -> Span:
        """A span around this one whose ends are exact as 32-bit floats, if one is near.

        Pillow holds the box in them. Where the ratio of the sizes is simple, many values lie exactly between
        two levels, and the float's error would tip them: up to 2 levels were seen.
        """
        grid = self.ratio.denominator
        grid //= grid & -grid  # powers of two are exact anyway
        if grid > _WIDEN_AT_MOST:
            return self
        first = self.first // grid * grid
        return self._replace(
            first=first, kept=min(self.resized, -(-(self.first + self.kept) // grid) * grid) - first
        )

    @property
    def ties(self) -> bool:
        """Whether an antialiased bilinear resize often comes out exactly between two levels."""
        return _ties(self.ratio)


@lru_cache(maxsize=1024)
def _ties(ratio: Fraction) -> bool:
    phases = ratio.denominator
    return phases <= _MANY_PHASES and any(_halves(ratio, phase) for phase in range(phases))


def _halves(ratio: Fraction, phase: int) -> bool:
    """Whether the weights of one output pixel, as whole numbers, have a small even sum.

    Of S results one lies between two levels if the sum S is even. A power of two is exact in any arithmetic.
    """
    support, centre = max(ratio, Fraction(1)), ratio * (phase + Fraction(1, 2))
    pixels = range(math.floor(centre - support), math.ceil(centre + support))
    weights = [max(Fraction(0), 1 - abs(pixel + Fraction(1, 2) - centre) / support) for pixel in pixels]
    parts = [int(weight * math.lcm(*(each.denominator for each in weights))) for weight in weights]
    total = sum(parts) // math.gcd(*parts)
    return total <= _SMALL_SUM and total % 2 == 0 and total & (total - 1) != 0


class Region(NamedTuple):
    """Which pixels of an image, as it is stored, are decoded.

    Attributes:
        scale: 1, 2, 4 or 8; each pixel stands for that many, across and down. The last may stand for fewer.
        across: columns at that scale, with a start and a stop.
        down: rows, likewise.
    """

    scale: int
    across: slice
    down: slice

    @classmethod
    def whole(cls, width: int, height: int, scale: int = 1) -> Region:
        """All of an image."""
        return cls(scale, slice(0, -(-width // scale)), slice(0, -(-height // scale)))


class Turn(NamedTuple):
    """From the stored image to the upright one: transposed first, then mirrored."""

    transposed: bool = False
    across: bool = False
    down: bool = False

    def spans(self, across: Span, down: Span) -> tuple[Span, Span]:
        """The upright image's spans -> the stored one's, across and down."""
        across, down = across.mirrored() if self.across else across, down.mirrored() if self.down else down
        return (down, across) if self.transposed else (across, down)

    def upright(self, pixels: Pixels) -> Pixels:
        """A view of pixels [height, width, channels] as they stand upright."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.down else 1, :: -1 if self.across else 1]


# By the EXIF orientation (Exif 2.32, tag 274).
TURNS = {
    1: Turn(),
    2: Turn(across=True),
    3: Turn(across=True, down=True),
    4: Turn(down=True),
    5: Turn(transposed=True),
    6: Turn(transposed=True, across=True),
    7: Turn(transposed=True, across=True, down=True),
    8: Turn(transposed=True, down=True),
}


@lru_cache(maxsize=1024)
def crop_spans(width: int, height: int, spec: PreprocessSpec) -> tuple[Span, Span]:
    """What Resize(resize_size), CenterCrop(crop_size) would keep of an image, across and down.

    With "squash" it is Resize((resize_size, resize_size)).
    Rounding follows torchvision's `_compute_resized_output_size` and `center_crop`:
    https://github.com/pytorch/vision/blob/main/torchvision/transforms/functional.py
    """
    if spec.resize_mode == SQUASH:
        resized_width = resized_height = spec.resize_size
    elif width <= height:
        resized_width, resized_height = spec.resize_size, int(spec.resize_size * height / width)
    else:
        resized_width, resized_height = int(spec.resize_size * width / height), spec.resize_size
    return _span(width, resized_width, spec.crop_size), _span(height, resized_height, spec.crop_size)


def _span(length: int, resized: int, kept: int) -> Span:
    first = round((resized - kept) / 2.0)  # halves to even, as torchvision does
    return Span(Fraction(length), resized, first, kept)
