"""Encoded image -> the square of pixels that the model sees. Runs on the CPU pool, per image."""

from __future__ import annotations

import numpy as np
from PIL import Image

from models.bundles.spec import PreprocessSpec
from models.errors import TooManyPixels
from models.images.budget import DEFAULT_MAX_PIXELS, DecodeBudget
from models.images.decode import Decoded, Encoded, Job, decode
from models.images.formats import SUPPORTED, check_formats
from models.images.geometry import Pixels, Region, Span, Turn, crop_spans
from models.images.resize import reads, resize_crop
from models.images.stop import Stop

__all__ = ["DEFAULT_MAX_PIXELS", "Encoded", "Pixels", "Preprocessor"]

# A JPEG is decoded at the smallest size that still has this many pixels for one of the resized image, along each
# axis, so that the antialiased resize has the last word. Measured: docs/pictures.md.
MARGIN = 2


class Preprocessor:
    """Decodes, turns upright, converts to RGB, resizes and crops, as the model's spec says.

    Holds no state between images: one instance serves all threads.

    Args:
        spec: the model's.
        max_pixels: the most that a file may hold.
        scaled_decode: whether big JPEGs are decoded at a half, a quarter or an eighth of their size.
        formats: those that are accepted, of `SUPPORTED` and `OPTIONAL` in models/images/formats.py.
        budget: what decoding may cost, shared with others; None: anything.
        exactly: whether every pixel is that of torchvision's transforms of a Pillow image, which takes longer.

    Raises:
        ValueError: a format that is not known, or cannot be decoded by what is installed.

    Attributes:
        exactly: see there.
        margin: pixels that a scaled JPEG still has for one of the resized image, along each axis, at least.
    """

    def __init__(
        self,
        spec: PreprocessSpec,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        scaled_decode: bool = True,
        formats: tuple[str, ...] = SUPPORTED,
        budget: DecodeBudget | None = None,
        exactly: bool = False,
    ) -> None:
        check_formats(formats)
        self.spec = spec
        self.max_pixels = max_pixels
        self.scaled_decode = scaled_decode and spec.interpolation != "nearest" and not exactly
        self.exactly = exactly
        self.margin: float = MARGIN
        self.formats = formats
        self._budget = budget or DecodeBudget()

    def __call__(self, data: Encoded, stop: Stop | None = None) -> Pixels:
        """Prepares one image.

        Args:
            data: a file of one of the formats that are accepted.
            stop: is set by another thread when the client of the image has left.

        Returns:
            uint8 [crop_size, crop_size, 3], RGB. Of an image that is decoded whole: within one level of
            torchvision's Resize ("squash": to a square) and CenterCrop of the upright 8-bit RGB image (bicubic:
            two, at a few pixels in a hundred thousand; more in images taller than 2 : 1 that keep their aspect).
            Of a JPEG that is decoded at a part of its size: docs/pictures.md says how near.

        Raises:
            UnsupportedFormat: the magic bytes are of no format that is accepted.
            UnsupportedImage: it is of a kind that cannot be decoded.
            TooManyPixels: width times height exceeds `max_pixels`.
            TooCostly: it would take too long.
            TooMuchMemory: it would take more memory than all images together may.
            UndecodableImage: anything that the decoder cannot read to the end.
            Stopped: `stop` was set.
        """
        stop = stop or Stop()
        with self._budget.hold(stop) as hold:
            return self._crop(decode(data, Job(self.max_pixels, self.region, hold.admit, stop), self.formats))

    def open(self, data: Encoded) -> Image.Image:
        """Decodes to an upright image of mode L or RGB, whole and never scaled. Raises as `__call__` does."""
        stop = Stop()
        with self._budget.hold(stop) as hold:
            decoded = decode(data, Job(self.max_pixels, _whole, hold.admit, stop), self.formats)
        pixels = np.ascontiguousarray(decoded.turn.upright(decoded.pixels))
        return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])

    def crop(self, image: Image.Image) -> Pixels:
        """Resizes and centre-crops an upright image of mode L or RGB, as `__call__` does."""
        pixels = np.atleast_3d(np.asarray(image))
        return self._crop(Decoded(pixels, 1, *image.size, Turn()))

    def prepare(self, pixels: Pixels) -> Pixels:
        """Resizes and centre-crops pixels as `__call__` does; those of the crop's size are returned as they are.

        Args:
            pixels: uint8 [height, width, 3], RGB, upright.

        Raises:
            TooManyPixels: width times height exceeds `max_pixels`.
        """
        height, width, side = *pixels.shape[:2], self.spec.crop_size
        if (height, width) == (side, side):
            return pixels
        if height * width > self.max_pixels:
            raise TooManyPixels(height * width, self.max_pixels)
        return self._crop(Decoded(pixels, 1, width, height, Turn()))

    def _crop(self, decoded: Decoded) -> Pixels:
        turn = decoded.turn
        across, down = self._spans(decoded.width, decoded.height, turn, decoded.scale)
        kept = resize_crop(decoded.pixels, across, down, self.spec.interpolation, turn.transposed, self.exactly)
        side = self.spec.crop_size
        return np.ascontiguousarray(np.broadcast_to(turn.upright(kept), (side, side, 3)))

    def _spans(self, width: int, height: int, turn: Turn, scale: int) -> tuple[Span, Span]:
        """What is kept of the stored image, across and down."""
        spans = crop_spans(*((height, width) if turn.transposed else (width, height)), self.spec)
        across, down = turn.spans(*spans)
        return across.shrunk(scale), down.shrunk(scale)

    def region(self, width: int, height: int, turn: Turn, scalable: bool) -> Region:
        """What has to be decoded of an image; scalable: whether it can be decoded at a part of its size."""
        scale = self._scale(width, height) if scalable else 1
        spans = self._spans(width, height, turn, scale)
        return Region(scale, *reads(*spans, self.spec.interpolation, turn.transposed, self.exactly))

    def _scale(self, width: int, height: int) -> int:
        """At which part of its size a JPEG is decoded."""
        # Both sides of a squashed image become resize_size: the short one has the fewest to spare here too.
        enough = min(width, height) / self.spec.resize_size / self.margin if self.scaled_decode else 1
        return max(scale for scale in (1, 2, 4, 8) if scale <= max(1, enough))


def _whole(width: int, height: int, turn: Turn, scalable: bool) -> Region:
    return Region.whole(width, height)
