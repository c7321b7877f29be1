"""A region of a JPEG by libjpeg-turbo, without Pillow's layout of four bytes a pixel: docs/pictures.md."""

from __future__ import annotations

import numpy as np

from models.images.geometry import Pixels, Region
from models.images.jpeg_file import JpegFile
from models.images.stop import Stop

try:
    from models.images import jpeg_region
except ImportError:  # it was not built: there was no compiler, or no libjpeg-turbo
    jpeg_region = None  # type: ignore[assignment,unused-ignore]
try:
    import simplejpeg  # type: ignore[import-untyped,import-not-found,unused-ignore]
except ImportError:
    simplejpeg = None

DECODERS = ("jpeg_region", "simplejpeg", "Pillow")  # the fastest first

_NEIGHBOURS = 2
_BLOCK = 32  # columns: the widest there is, where one sample of colour stands for four pixels


def decoder() -> str:
    """Which of `DECODERS` is used here."""
    return next(name for name in DECODERS if globals().get(name) or name == "Pillow")


def decode_jpeg(file: JpegFile, data: bytes, region: Region, stop: Stop | bytes = b"") -> Pixels | None:
    """Decodes at least a region.

    Args:
        file: what its segments say: size and mode are taken from it.
        data: its bytes.
        region: inside the image.
        stop: is looked at for each row of blocks, by jpeg_region alone.

    Returns:
        uint8 [rows, columns, 1 or 3], grey or RGB, from the first pixel of the image on, at least to the end of
        the region; outside of it they may be anything. None where no decoder is installed, where it was stopped,
        and where it does not like the file or warns of it: Pillow is the judge then.
    """
    if file.mode not in ("L", "RGB"):
        return None
    if jpeg_region is not None:
        return _by_region(file, data, region, stop)
    return None if simplejpeg is None else _by_simplejpeg(file, data, region)


def _by_region(file: JpegFile, data: bytes, region: Region, stop: Stop | bytes) -> Pixels | None:
    scale, across, down = region
    # From where a block begins, and with neighbours, which interpolated colour takes into account.
    first = max(0, across.start - _NEIGHBOURS) // _BLOCK * _BLOCK
    end = min(-(-file.width // scale), across.stop + _NEIGHBOURS)
    # Pages that are not written are not allocated.
    pixels = np.empty((down.stop, end, len(file.mode)), np.uint8)
    try:
        jpeg_region.decode(data, file.size, scale, (first, down.start), pixels[down.start :, first:], stop)
    except ValueError:
        return None
    return pixels


def _by_simplejpeg(file: JpegFile, data: bytes, region: Region) -> Pixels | None:
    whole = Region.whole(file.width, file.height, region.scale)
    height, width, bands = whole.down.stop, whole.across.stop, len(file.mode)
    # A buffer of this size: what its own reading of the header makes of the file is not to be trusted.
    buffer = np.empty((height, width, bands), np.uint8)
    colours, scale = "GRAY" if bands == 1 else "RGB", float(region.scale)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colours, False, False, height, width, scale, buffer)
    except Exception:
        return None
    return pixels if pixels.shape == buffer.shape else None
