"""AVIF by Pillow and HEIC by pillow-heif, which is an extra. Both are boxes of ISO/IEC 14496-12 and 23008-12."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from io import BytesIO
from typing import Any

from PIL import Image

from models.errors import UnsupportedImage

# An entry of the table of items: size, "infe", version, flags, number, protection, type. XMP is one of type mime.
_ITEM = rb"(infe(?:\x02.{7}|\x03.{9}))"
_METADATA_ITEM = re.compile(_ITEM + rb"(?:Exif|mime)", re.DOTALL)
_ITEM_TYPE = re.compile(_ITEM + rb"(.{4})", re.DOTALL)
_MOST_BOXES = 1000


def open_avif(data: bytes) -> Image.Image:
    """An AVIF file, not decoded yet. Its EXIF holds the orientation that the container tells, and nothing else."""
    _check_codec(data, b"av01", "AVIF with another codec than AV1")
    image: Image.Image = _avif().AvifImageFile(BytesIO(without_metadata(data)))
    return image


def open_heic(data: bytes) -> Image.Image:
    """A HEIC file, not decoded yet; it will be upright."""
    _check_codec(data, b"hvc1", "HEIC with another codec than HEVC")
    image: Image.Image = _heif().HeifImageFile(BytesIO(without_metadata(data)))
    return image


def without_metadata(data: bytes) -> bytes:
    """The file with items of another type in place of EXIF and XMP, of the same length.

    The container tells the orientation, and EXIF does not count (ISO/IEC 23000-22, 7.3.6.2). libavif, libheif and
    Pillow read it all the same, and fail or warn where it is broken.
    """
    for name, start, stop in _boxes(data):
        if name == b"meta":
            return data[:start] + _METADATA_ITEM.sub(rb"\1skip", data[start:stop]) + data[stop:]
    return data


def _check_codec(data: bytes, codec: bytes, otherwise: str) -> None:
    """Raises UnsupportedImage, which says `otherwise`, for a file of items of which none is of the codec."""
    for name, start, stop in _boxes(data):
        types = {found[2] for found in _ITEM_TYPE.finditer(data, start, stop)} if name == b"meta" else set()
        if types and codec not in types:
            raise UnsupportedImage(otherwise, "convert it to JPEG")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, stop) of each outer box, header included."""
    position = 0
    for _ in range(_MOST_BOXES):
        head = data[position : position + 16]
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4])
        if size == 1:
            size = int.from_bytes(head[8:])
        stop = len(data) if size == 0 else position + max(8, size)
        yield head[4:8], position, stop
        position = stop


@lru_cache
def _avif() -> Any:
    plugin = import_module("PIL.AvifImagePlugin")
    # Images are decoded side by side, each by one thread.
    plugin.DEFAULT_MAX_THREADS = 1  # type: ignore[attr-defined]
    return plugin


@lru_cache
def _heif() -> Any:
    package = import_module("pillow_heif")
    options = package.options
    options.DECODE_THREADS = 1
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return package
