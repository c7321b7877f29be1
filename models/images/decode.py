"""Encoded image -> pixels, as they are stored: neither turned upright nor resized.

What a file holds beside its pixels stays out of Pillow's hands: jpeg_file.py, png.py and webp.py read the
orientation, and pass on what counts for the pixels. So no text, profile, EXIF or second image decides whether an
image is taken, is unpacked, or makes a library print what a client has written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from models.errors import (
    ImageError,
    TooManyPixels,
    UndecodableImage,
    UnsupportedFormat,
    UnsupportedImage,
)
from models.images.colour import to_rgb
from models.images.exif import Metadata
from models.images.formats import SUPPORTED, sniff
from models.images.geometry import TURNS, Pixels, Region, Turn
from models.images.heif import open_avif, open_heic
from models.images.jpeg import decode_jpeg
from models.images.jpeg_file import JpegFile, read_jpeg
from models.images.jpeg_support import can_decode
from models.images.png import decode_png, read_png
from models.images.webp import read_webp

Encoded = bytes | bytearray | memoryview
# (width, height, turn) -> what is needed of a stored image.
ChooseRegion = Callable[[int, int, Turn], Region]


class Decoded(NamedTuple):
    """An image as it is stored.

    Attributes:
        pixels: uint8 [rows, columns, 1 or 3], grey or RGB, from the first of the image on. Outside of the region
            that was asked for they may be missing, or anything.
        scale: each stands for that many pixels, across and down.
        width: of the whole image, unscaled.
        height: likewise.
        turn: what sets it upright.
    """

    pixels: Pixels
    scale: int
    width: int
    height: int
    turn: Turn


def decode(data: Encoded, max_pixels: int, choose: ChooseRegion, formats: Sequence[str] = SUPPORTED) -> Decoded:
    """Decodes an image file; of a JPEG at least the region that `choose` names, at its scale.

    Raises:
        UnsupportedFormat: the magic bytes are of none of `formats`.
        UnsupportedImage: it is of a kind that cannot be decoded.
        TooManyPixels: width times height exceeds `max_pixels`.
        UndecodableImage: anything that the decoder cannot read to the end.
    """
    name = sniff(data).name
    if name is None or name not in formats:
        raise UnsupportedFormat(name, formats)
    try:
        return _DECODERS[name](bytes(data), max_pixels, choose)  # what is bytes already is not copied
    except ImageError:
        raise
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, struct.error … for damaged input, with texts
        # that hold object addresses. Only the type of the fault leaves.
        raise UndecodableImage(name) from error


def _decode_jpeg(data: bytes, max_pixels: int, choose: ChooseRegion) -> Decoded:
    file = read_jpeg(data)
    _check_pixels(file.width, file.height, max_pixels)
    if file.has_too_many_scans(data):
        raise UndecodableImage("JPEG")
    turn = _turn(file.metadata)
    region = choose(file.width, file.height, turn)
    pixels = decode_jpeg(file, data, region)
    if pixels is None:
        pixels = _by_pillow(file, data, region.scale)
    return Decoded(pixels, region.scale, file.width, file.height, turn)


def _by_pillow(file: JpegFile, data: bytes, scale: int) -> Pixels:
    """A whole JPEG at 1/scale of its size."""
    try:
        image = _open(file.without_metadata(data), "JPEG")
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        return _pixels(image)
    except Exception:
        if file.rarity is not None and not can_decode(file.rarity):
            raise UnsupportedImage(file.rarity, "convert it to a baseline or progressive JPEG") from None
        raise


def _decode_png(data: bytes, max_pixels: int, choose: ChooseRegion) -> Decoded:
    file = read_png(data)
    _check_pixels(file.width, file.height, max_pixels)
    return Decoded(decode_png(file), 1, file.width, file.height, _turn(file.metadata))


def _decode_webp(data: bytes, max_pixels: int, choose: ChooseRegion) -> Decoded:
    file = read_webp(data)
    _check_pixels(file.width, file.height, max_pixels)
    # The pixels may contradict the header.
    pixels = _pixels(_open(file.image, "WEBP"))
    return Decoded(pixels, 1, pixels.shape[1], pixels.shape[0], _turn(file.metadata))


def _decode_avif(data: bytes, max_pixels: int, choose: ChooseRegion) -> Decoded:
    image = open_avif(data)
    _check_pixels(image.width, image.height, max_pixels)
    pixels = _pixels(image)
    turn = _turn(Metadata(image.info.get("exif")))
    return Decoded(pixels, 1, pixels.shape[1], pixels.shape[0], turn)


def _decode_heic(data: bytes, max_pixels: int, choose: ChooseRegion) -> Decoded:
    image = open_heic(data)
    _check_pixels(image.width, image.height, max_pixels)
    pixels = _pixels(image)
    return Decoded(pixels, 1, pixels.shape[1], pixels.shape[0], Turn())


_DECODERS: dict[str, Callable[[bytes, int, ChooseRegion], Decoded]] = {
    "JPEG": _decode_jpeg,
    "PNG": _decode_png,
    "WEBP": _decode_webp,
    "AVIF": _decode_avif,
    "HEIC": _decode_heic,
}


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixels(max_pixels, width * height)


def _open(data: bytes, plugin: str) -> Image.Image:
    # Only the plugin that was sniffed is asked, which keeps every other parser out of reach.
    return Image.open(BytesIO(data), formats=(plugin,))


def _pixels(image: Image.Image) -> Pixels:
    image.load()
    return np.atleast_3d(np.asarray(to_rgb(image)))


def _turn(metadata: Metadata) -> Turn:
    return TURNS.get(metadata.orientation, Turn())
