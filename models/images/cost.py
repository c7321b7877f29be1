"""What decoding an image costs, estimated from its header before it is decoded.

The rates are upper bounds over what the content can be, measured by `python -m benchmark bombs`, which shows estimate
beside measurement: docs/pictures.md.
"""

from __future__ import annotations

from typing import NamedTuple

from models.images.geometry import Region
from models.images.jpeg_file import JpegFile
from models.images.png import PngFile
from models.images.webp import WebpFile


class Cost(NamedTuple):
    """Of one image.

    Attributes:
        pixels: width times height.
        seconds: of one thread of the machine that the rates were measured on.
        memory: bytes, the most at any time until the image is resized.
    """

    pixels: int
    seconds: float
    memory: float


# Nanoseconds.
_READ = 4.0  # for each pixel of the region that is converted, and resized
_JPEG_PIXEL = 0.7
_JPEG_SCAN = 0.8  # for each pixel, of each scan
_JPEG_SAMPLE = 3.0  # that is transformed
_JPEG_BYTE = 14.0
_ARITHMETIC_BYTE = 60.0
_PNG_RAW = 3.0  # for each byte that is unpacked
_PNG_PIXEL = {False: 3.0, True: 12.0}  # by whether it is interlaced
_PNG_BYTE = 15.0
_WEBP_PIXEL = {False: 8.0, True: 6.0}  # by whether it is lossless
_WEBP_BYTE = {False: 90.0, True: 60.0}
_ALPHA_PIXEL = 12.0
_PILLOW_WEBP_PIXEL = 20.0
_HEIF_PIXEL = {"AVIF": 16.0, "HEIC": 25.0}
_HEIF_BYTE = 90.0

# Bytes.
_IMAGE = 4  # for each pixel of an image of Pillow's
_ROW = 8  # for each row of it
_PIXEL = 3
_PILLOW_WEBP = 16  # two canvases, the same as bytes and as an image
_HEIF = 13

_ELONGATED = 4  # from this aspect on Pillow resizes, which needs an image of its own


def of_jpeg(file: JpegFile, length: int, scans: int, region: Region) -> Cost:
    """Of a JPEG of `length` bytes, of which libjpeg decodes the region."""
    kept, pixels = _kept(region), file.width * file.height
    in_passes = file.is_progressive or scans > 1
    byte_ns = _ARITHMETIC_BYTE if file.is_arithmetic else _JPEG_BYTE
    ns = _JPEG_PIXEL * file.samples * pixels + byte_ns * length + (_JPEG_SAMPLE * file.samples + _READ) * kept
    if in_passes:
        ns += scans * _JPEG_SCAN * file.samples / 3 * pixels
    memory = _PIXEL * _reach(region) + (2 * file.samples * pixels if in_passes else 0)
    return Cost(pixels, ns / 1e9, memory + _resize(file.size, kept))


def of_jpeg_by_pillow(file: JpegFile, length: int, scans: int, region: Region) -> Cost:
    """Of a JPEG that Pillow decodes, all of it at the region's scale."""
    cost, decoded = of_jpeg(file, length, scans, region), file.width * file.height / region.scale**2
    ns = (_JPEG_SAMPLE * file.samples + _READ) * decoded
    return cost._replace(seconds=cost.seconds + ns / 1e9, memory=cost.memory + _IMAGE * decoded)


def of_png(file: PngFile, region: Region) -> Cost:
    """Of a PNG, which Pillow decodes whole."""
    pixels, kept = file.width * file.height, _kept(region)
    raw = pixels * file.bits / 8
    decodes = 2 if file.has_key and file.bits == 48 else 1
    ns = decodes * (_PNG_RAW * raw + _PNG_PIXEL[file.interlaced] * pixels + _PNG_BYTE * len(file.image))
    ns += (_READ + (_ALPHA_PIXEL if file.has_alpha else 0)) * kept
    held = decodes * (_image(file.width, file.height) + raw / max(1, file.height))
    return Cost(pixels, ns / 1e9, held + _PIXEL * _reach(region) + _resize((file.width, file.height), kept))


def of_webp(file: WebpFile, region: Region) -> Cost:
    """Of a WebP, by libwebp itself."""
    pixels, kept = file.width * file.height, _kept(region)
    ns = _WEBP_PIXEL[file.is_lossless] * pixels + _WEBP_BYTE[file.is_lossless] * len(file.image)
    ns += (_READ + (_ALPHA_PIXEL if file.has_alpha else 0)) * kept
    memory = _PIXEL * _reach(region) + (_IMAGE * pixels if file.is_lossless or file.has_alpha else 0)
    return Cost(pixels, ns / 1e9, memory + _resize((file.width, file.height), kept))


def of_webp_by_pillow(file: WebpFile, region: Region) -> Cost:
    """Of a WebP that Pillow decodes, an animation."""
    cost, pixels = of_webp(file, region), file.width * file.height
    seconds = cost.seconds + _PILLOW_WEBP_PIXEL * pixels / 1e9
    return cost._replace(seconds=seconds, memory=cost.memory + _PILLOW_WEBP * pixels)


def of_heif(format: str, size: tuple[int, int], length: int, region: Region) -> Cost:
    """Of an AVIF or HEIC of `length` bytes."""
    pixels, kept = size[0] * size[1], _kept(region)
    ns = _HEIF_PIXEL[format] * pixels + _HEIF_BYTE * length + (_READ + _ALPHA_PIXEL) * kept
    return Cost(pixels, ns / 1e9, _HEIF * pixels + _PIXEL * _reach(region) + _resize(size, kept))


def _kept(region: Region) -> int:
    """Pixels of it."""
    return (region.across.stop - region.across.start) * (region.down.stop - region.down.start)


def _reach(region: Region) -> int:
    """Pixels from the first of the image to the last of the region, at its scale; those above take no memory."""
    return int(region.across.stop) * (region.down.stop - region.down.start)


def _image(width: int, height: int) -> int:
    """Bytes of one of Pillow's."""
    return _IMAGE * width * height + _ROW * height


def _resize(size: tuple[int, int], kept: int) -> int:
    """Bytes of Pillow's image of what is kept, where it resizes."""
    width, height = size
    return _IMAGE * kept + _ROW * height if max(size) > _ELONGATED * min(size) else 0
