"""Encoded picture -> the square of pixels that the model sees. Runs on the decode pool, per picture."""

from __future__ import annotations

import math
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngStream

from models.errors import TooManyPixels, UndecodablePicture, UnsupportedFormat
from models.formats import sniff
from models.spec import PreprocessSpec

Pixels = NDArray[np.uint8]
Encoded = bytes | bytearray | memoryview

DEFAULT_MAX_PIXELS = 50_000_000

# The filter, and how many output pixels far it looks.
_RESAMPLING = {
    "nearest": (Image.Resampling.NEAREST, 1),
    "bilinear": (Image.Resampling.BILINEAR, 1),
    "bicubic": (Image.Resampling.BICUBIC, 2),
}
_WIDEN_AT_MOST = 64  # output pixels
# A progressive JPEG has about ten scans, each of which is a pass over all pixels; a made-up one repeated a scan of
# 75 bytes 300 times and took 15 s. (In the pixels' own bytes 0xff never stands before 0xda: ITU T.81, B.1.1.5.)
_START_OF_SCAN = b"\xff\xda"
_MAX_SCANS = 100
_STRIP = 256  # rows that are blended at once
_EXIF_ORIENTATION = 0x0112
# What has to be done to the stored picture so that it stands upright (Exif 2.32, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The pixel limit is ours and is checked against the header. Pillow's own would warn first, and raise only
# at twice its value.
Image.MAX_IMAGE_PIXELS = None
# Pillow before 13, and so pillow-simd, fills and crops a whole canvas for an animation while it opens the file,
# before anybody can look at its size: 127 bytes took 4 GB. The first frame is in IDAT; no other is ever read.
for _chunk in ("acTL", "fcTL", "fdAT"):
    if hasattr(PngStream, f"chunk_{_chunk}"):
        delattr(PngStream, f"chunk_{_chunk}")


class Preprocessor:
    """Decodes, turns upright, converts to RGB, resizes and crops, as the model's spec says.

    Holds no state between pictures: one instance serves all threads.
    """

    def __init__(self, spec: PreprocessSpec, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self.spec = spec
        self.max_pixels = max_pixels

    def __call__(self, data: Encoded) -> Pixels:
        """Prepares one picture.

        Args:
            data: a JPEG, PNG or WebP file.

        Returns:
            uint8 [crop_size, crop_size, 3], RGB, within one level of torchvision's Resize and CenterCrop
            (bicubic: two, at a few pixels in a hundred thousand)
            of the upright 8-bit RGB picture.

        Raises:
            UnsupportedFormat: the magic bytes are of none of the three formats.
            TooManyPixels: width times height exceeds `max_pixels`.
            UndecodablePicture: anything that the decoder cannot read to the end.
        """
        return self.crop(self.open(data))

    def open(self, data: Encoded) -> Image.Image:
        """Decodes to an upright picture of mode L or RGB, whole. Raises as `__call__` does."""
        found = sniff(data)
        if not found.supported:
            raise UnsupportedFormat(found.name)
        assert found.name is not None
        data = bytes(data)  # what is bytes already, and BytesIO of bytes, is not copied
        if found.name == "JPEG" and data.count(_START_OF_SCAN) > _MAX_SCANS:
            raise UndecodablePicture(found.name)
        try:
            # Only the plugin that was sniffed is asked, which keeps every other parser out of reach.
            image = Image.open(BytesIO(data), formats=(found.name,))
            self._check_pixels(image)
            image.load()
            return to_rgb(_upright(image))
        except TooManyPixels:
            raise
        except Exception as error:
            # Pillow raises OSError, SyntaxError, ValueError, struct.error … for damaged input, with texts
            # that hold object addresses. Only the type of the fault leaves.
            raise UndecodablePicture(found.name) from error

    def crop(self, image: Image.Image) -> Pixels:
        """Resizes and centre-crops in one step, computing only the pixels of the crop."""
        across, down = crop_spans(image.width, image.height, self.spec)
        resampling, reach = _RESAMPLING[self.spec.interpolation]
        resize = _resize_rows_first if self.spec.interpolation == "bicubic" else _resize
        resized = resize(image, across, down, resampling, reach)
        pixels = np.asarray(resized if resized.mode == "RGB" else resized.convert("RGB"))
        # Sliced by numpy: Pillow's own crop had an out-of-bounds write before 12.3, and has it in pillow-simd.
        side = self.spec.crop_size
        return np.ascontiguousarray(pixels[down.skip : down.skip + side, across.skip : across.skip + side])

    def _check_pixels(self, image: Image.Image) -> None:
        pixels = image.width * image.height
        if pixels > self.max_pixels:
            raise TooManyPixels(self.max_pixels, pixels)


class Span(NamedTuple):
    """A stretch of one axis: `size` output pixels that show the source from `start` to `stop`.

    Attributes:
        size: output pixels to compute; the crop is among them.
        skip: how many of them lie before the crop.
        start: source position at which the first begins, in pixels; `stop` likewise of the last one's end.
    """

    size: int
    skip: int
    start: float
    stop: float


def crop_spans(width: int, height: int, spec: PreprocessSpec) -> tuple[Span, Span]:
    """What Resize(resize_size), CenterCrop(crop_size) would keep of a picture, across and down.

    Rounding follows torchvision's `_compute_resized_output_size` and `center_crop`:
    https://github.com/pytorch/vision/blob/main/torchvision/transforms/functional.py
    """
    if width <= height:
        resized_width, resized_height = spec.resize_size, int(spec.resize_size * height / width)
    else:
        resized_width, resized_height = int(spec.resize_size * width / height), spec.resize_size
    return _span(width, resized_width, spec.crop_size), _span(height, resized_height, spec.crop_size)


def _span(length: int, resized: int, kept: int) -> Span:
    first = round((resized - kept) / 2.0)  # halves to even, as torchvision does
    begin, end = first, first + kept
    # Pillow holds the box in 32-bit floats. Where the ratio of the sizes is simple, many values lie exactly
    # between two levels, and the float's error would tip them: up to 2 levels were seen. There an output pixel
    # whose border is exact as a float is near, so the span is widened to it.
    grid = resized // math.gcd(length, resized)
    grid //= grid & -grid  # powers of two are exact anyway
    if grid <= _WIDEN_AT_MOST:
        begin, end = begin // grid * grid, min(resized, -(-end // grid) * grid)
    scale = length / resized
    return Span(end - begin, first - begin, begin * scale, min(end * scale, length))


def _resize(image: Image.Image, across: Span, down: Span, resampling: Image.Resampling, reach: int) -> Image.Image:
    box = (across.start, down.start, across.stop, down.stop)
    return image.resize((across.size, down.size), resampling, box=box)


def _resize_rows_first(
    image: Image.Image, across: Span, down: Span, resampling: Image.Resampling, reach: int
) -> Image.Image:
    # Bicubic overshoots and is clipped between the two passes, so their order shows: up to 10 levels. Pillow
    # chooses it by the shape of the box; for a whole picture whose aspect is kept it takes the rows first.
    margin = math.ceil(reach * max(1.0, (down.stop - down.start) / down.size)) + 1
    top, bottom = max(0, math.floor(down.start) - margin), min(image.height, math.ceil(down.stop) + margin)
    rows = image.resize((across.size, bottom - top), resampling, box=(across.start, top, across.stop, bottom))
    box = (0, down.start - top, across.size, down.stop - top)
    return rows.resize((across.size, down.size), resampling, box=box)


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts to 8 bits per channel: mode L stays L, everything else becomes RGB.

    - 1 bit and grey become grey; 16-bit grey keeps its high byte, as 16-bit colour does in Pillow.
    - Palette, LA, RGBA and colour-key transparency are laid on white.
    - CMYK and YCCK go through Pillow's plain conversion, without a colour profile.
    """
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    # numpy rather than Image.paste, for the same reason as in `crop`; in strips, so that 50 megapixels do not need
    # gigabytes for intermediate results.
    rgba = np.asarray(image)
    blended = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), _STRIP):
        strip = rgba[top : top + _STRIP].astype(np.uint16)
        alpha = strip[..., 3:]
        # At most 65,152: it fits.
        blended[top : top + _STRIP] = (strip[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return Image.fromarray(blended)


def _upright(image: Image.Image) -> Image.Image:
    # Before the resize, so that its two passes meet the axes in the order of the upright picture.
    transpose = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    return image if transpose is None else image.transpose(transpose)
