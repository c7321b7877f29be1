"""Encoded picture -> pixels, as they are stored: neither turned upright nor resized."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngStream

from models.errors import TooManyPixels, UndecodablePicture, UnsupportedFormat
from models.formats import sniff
from models.geometry import TURNS, Pixels, Region, Turn
from models.jpeg import decode_jpeg

Encoded = bytes | bytearray | memoryview
# (width, height, turn) -> what is needed of a stored picture.
ChooseRegion = Callable[[int, int, Turn], Region]

# A progressive JPEG has about ten scans, each of which is a pass over all pixels; a made-up one repeated a scan of
# 75 bytes 300 times and took 15 s. (In the pixels' own bytes 0xff never stands before 0xda: ITU T.81, B.1.1.5.)
_START_OF_SCAN = b"\xff\xda"
_MAX_SCANS = 100
_STRIP = 256  # rows that are blended at once
_EXIF_ORIENTATION = 0x0112
_MAY_HOLD_EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")

# The pixel limit is ours and is checked against the header. Pillow's own would warn first, and raise only
# at twice its value.
Image.MAX_IMAGE_PIXELS = None
# Pillow before 13, and so pillow-simd, fills and crops a whole canvas for an animation while it opens the file,
# before anybody can look at its size: 127 bytes took 4 GB. The first frame is in IDAT; no other is ever read.
for _chunk in ("acTL", "fcTL", "fdAT"):
    if hasattr(PngStream, f"chunk_{_chunk}"):
        delattr(PngStream, f"chunk_{_chunk}")


class Decoded(NamedTuple):
    """A picture as it is stored.

    Attributes:
        pixels: uint8 [rows, columns, 1 or 3], grey or RGB, from the first of the picture on. Outside of the region
            that was asked for they may be missing, or anything.
        scale: each stands for that many pixels, across and down.
        width: of the whole picture, unscaled.
        height: likewise.
        turn: what sets it upright.
    """

    pixels: Pixels
    scale: int
    width: int
    height: int
    turn: Turn


def decode(data: Encoded, max_pixels: int, choose: ChooseRegion) -> Decoded:
    """Decodes a JPEG, PNG or WebP file; of a JPEG at least the region that `choose` names, at its scale.

    Raises:
        UnsupportedFormat: the magic bytes are of none of the three formats.
        TooManyPixels: width times height exceeds `max_pixels`.
        UndecodablePicture: anything that the decoder cannot read to the end.
    """
    found = sniff(data)
    if not found.supported:
        raise UnsupportedFormat(found.name)
    assert found.name is not None
    data = bytes(data)  # what is bytes already, and BytesIO of bytes, is not copied
    try:
        # Only the plugin that was sniffed is asked, which keeps every other parser out of reach.
        image = Image.open(BytesIO(data), formats=(found.name,))
        if image.width * image.height > max_pixels:
            raise TooManyPixels(max_pixels, image.width * image.height)
        return _decode(image, data, choose)
    except (TooManyPixels, UndecodablePicture):
        raise
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, struct.error … for damaged input, with texts
        # that hold object addresses. Only the type of the fault leaves.
        raise UndecodablePicture(found.name) from error


def _decode(image: Image.Image, data: bytes, choose: ChooseRegion) -> Decoded:
    width, height = image.size
    if image.format not in ("JPEG", "MPO"):
        # Its EXIF may come behind the pixels.
        return Decoded(_pixels(image), 1, width, height, _turn(image))
    if _scans(image, data) > _MAX_SCANS:
        raise UndecodablePicture("JPEG")
    turn = _turn(image)
    region = choose(width, height, turn)
    pixels = decode_jpeg(image, data, region)
    if pixels is None:
        _draft(image, region.scale)
        pixels = _pixels(image)
    return Decoded(pixels, region.scale, width, height, turn)


def _scans(image: Any, data: bytes) -> int:
    """How many scans the decoder may have to go through."""
    # Where the first scan of a picture that is not progressive holds all components, libjpeg refuses a second one
    # (jdapimin.c, consume_markers). Counting takes 1 ms for each MB. Pillow has stopped behind the scan's header.
    length = 6 + 2 * image.layers
    start = image.fp.tell() - length - 2
    header = data[start : start + 5]
    whole = header == _START_OF_SCAN + bytes((0, length, image.layers))
    return 1 if whole and "progressive" not in image.info else data.count(_START_OF_SCAN)


def _draft(image: Image.Image, scale: int) -> None:
    """Makes Pillow decode at 1/scale of the size."""
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))


def _pixels(image: Image.Image) -> Pixels:
    image.load()
    pixels: Pixels = np.asarray(to_rgb(image))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _turn(image: Image.Image) -> Turn:
    # Pillow takes 0.1 ms to say that there is no EXIF.
    if not any(key in image.info for key in _MAY_HOLD_EXIF):
        return Turn()
    return TURNS.get(image.getexif().get(_EXIF_ORIENTATION, 1), Turn())


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
    # numpy rather than Image.paste, for the same reason as in `resize`; in strips, so that 50 megapixels do not
    # need gigabytes for intermediate results.
    rgba = np.asarray(image)
    blended = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), _STRIP):
        strip = rgba[top : top + _STRIP].astype(np.uint16)
        alpha = strip[..., 3:]
        # At most 65,152: it fits.
        blended[top : top + _STRIP] = (strip[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return Image.fromarray(blended)
