"""What decoding an image costs, estimated from its header before it is decoded.

The rates are upper bounds over what the content can be. `python -m benchmark bombs` shows them beside what it
measures: docs/pictures.md.
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
_PNG_ROW = 40.0
_PALETTE_PIXEL = 6.0
_KEY_PIXEL = 8.0
_WEBP_PIXEL = {False: 6.0, True: 4.0}  # by whether it is lossless
_WEBP_BYTE = {False: 90.0, True: 40.0}
_ALPHA_PIXEL = 12.0
_PILLOW_WEBP_PIXEL = 10.0
_HEIF_PIXEL = {"AVIF": 10.0, "HEIC": 15.0}
_HEIF_BYTE = 90.0

# Bytes.
_IMAGE = 4  # for each pixel of an image of Pillow's
_ROW = 8  # for each row of it
_PIXEL = 3
_PILLOW_WEBP = 16  # two canvases, the same as bytes and as an image
_HEIF = 8
_STRIP_PIXEL = 28  # for each pixel of a strip that is converted
_STRIP = 1 << 20  # pixels of one

_ELONGATED = 4  # from this aspect on Pillow resizes, which needs an image of its own


def of_jpeg(file: JpegFile, length: int, scans: int, region: Region) -> Cost:
    """Of a JPEG of `length` bytes, of which libjpeg decodes the region."""
    kept, pixels = _kept(region), file.width * file.height
    in_passes = file.is_progressive or scans > 1
    byte_ns = _ARITHMETIC_BYTE if file.is_arithmetic else _JPEG_BYTE
    ns = _JPEG_PIXEL * file.samples * pixels + byte_ns * length + (_JPEG_SAMPLE * file.samples + _READ) * kept
    if in_passes:
        ns += scans * _JPEG_SCAN * file.samples / 3 * pixels
    coefficients = 2 * file.samples * pixels if in_passes else 0
    return Cost(pixels, ns / 1e9, _memory(file.size, region, coefficients))


def of_jpeg_by_pillow(file: JpegFile, length: int, scans: int, region: Region) -> Cost:
    """Of a JPEG that Pillow decodes, all of it at the region's scale."""
    cost, decoded = of_jpeg(file, length, scans, region), file.width * file.height / region.scale**2
    ns = (_JPEG_SAMPLE * file.samples + _READ) * decoded
    memory = cost.memory + _IMAGE * decoded + _strip(region)
    return cost._replace(seconds=cost.seconds + ns / 1e9, memory=memory)


def of_png(file: PngFile, region: Region) -> Cost:
    """Of a PNG, which Pillow decodes whole."""
    pixels, kept = file.width * file.height, _kept(region)
    raw = pixels * file.bits / 8
    decodes = 2 if file.has_key and file.bits == 48 else 1
    ns = decodes * (_PNG_RAW * raw + _PNG_PIXEL[file.interlaced] * pixels + _PNG_BYTE * len(file.image))
    ns += decodes * _PNG_ROW * file.height
    ns += (
        _READ + _ALPHA_PIXEL * file.has_alpha + _PALETTE_PIXEL * file.has_palette + _KEY_PIXEL * file.has_key
    ) * kept
    held = decodes * (_IMAGE * pixels + _ROW * file.height + raw / file.height) + _strip(region)
    return Cost(pixels, ns / 1e9, _memory((file.width, file.height), region, held))


def of_webp(file: WebpFile, region: Region) -> Cost:
    """Of a WebP, by libwebp itself."""
    pixels, kept = file.width * file.height, _kept(region)
    ns = _WEBP_PIXEL[file.is_lossless] * pixels + _WEBP_BYTE[file.is_lossless] * len(file.image)
    ns += (_READ + _ALPHA_PIXEL * file.has_alpha) * kept
    held = (_IMAGE * pixels if file.is_lossless or file.has_alpha else 0) + _strip(region) * file.has_alpha
    return Cost(pixels, ns / 1e9, _memory((file.width, file.height), region, held))


def of_webp_by_pillow(file: WebpFile, region: Region) -> Cost:
    """Of a WebP that Pillow decodes, an animation."""
    cost, pixels = of_webp(file, region), file.width * file.height
    seconds = cost.seconds + _PILLOW_WEBP_PIXEL * pixels / 1e9
    memory = _memory((file.width, file.height), region, _PILLOW_WEBP * pixels + _strip(region))
    return cost._replace(seconds=seconds, memory=memory)


def of_heif(format: str, size: tuple[int, int], length: int, region: Region) -> Cost:
    """Of an AVIF or HEIC of `length` bytes."""
    pixels, kept = size[0] * size[1], _kept(region)
    ns = _HEIF_PIXEL[format] * pixels + _HEIF_BYTE * length + (_READ + _ALPHA_PIXEL) * kept
    return Cost(pixels, ns / 1e9, _memory(size, region, _HEIF * pixels + _strip(region)))


def _kept(region: Region) -> int:
    """Pixels of it."""
    return int(region.across.stop - region.across.start) * int(region.down.stop - region.down.start)


def _reach(region: Region) -> int:
    """Pixels from the first of the image to the last of the region, at its scale; those above take no memory."""
    return int(region.across.stop) * int(region.down.stop - region.down.start)


def _strip(region: Region) -> int:
    """Bytes of what is between a strip of it and its pixels."""
    return _STRIP_PIXEL * min(_STRIP, _kept(region))


def _memory(size: tuple[int, int], region: Region, decoder: float) -> float:
    """Bytes of the pixels, with what the decoder holds, and then Pillow's image of them where it resizes."""
    is_elongated = max(size) > _ELONGATED * min(size)
    resize = _IMAGE * _kept(region) + _ROW * size[1] if is_elongated else 0
    return _PIXEL * _reach(region) + max(decoder, resize)
