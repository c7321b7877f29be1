"""Small files of many pixels, and of each other kind that costs a decoder much. All are made here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from benchmark.harness.photos import encode

SIDE = 7000  # 49 megapixels, just below --max-image-mpixels
_COLOUR = (200, 30, 30)
_GREY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6  # of PNG
_BANDS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _RGBA: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PAETH = 4
_BLOCK = 1 << 20
_TILE = 512
_SOS = b"\xff\xda"


def png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    interlaced: bool = False,
    filter: int = 0,
    chunk_bytes: int = 1 << 30,
    before: bytes = b"",
) -> bytes:
    """One colour: about a thousandth of its unpacked size."""
    packed = _packed(width, height, depth * _BANDS[colour], interlaced, filter)
    chunks = (_chunk(b"IDAT", packed[start : start + chunk_bytes]) for start in range(0, len(packed), chunk_bytes))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    palette = _chunk(b"PLTE", bytes(range(256)) * 3) if colour == _PALETTE else b""
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + before + palette
    return b"".join((head, *chunks, _chunk(b"IEND", b"")))


def _packed(width: int, height: int, bits: int, interlaced: bool, filter: int) -> bytes:
    packer, parts = zlib.compressobj(9), []
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            row = bytes([filter]) + bytes((columns * bits + 7) // 8)
            parts += [packer.compress(part) for part in _repeated(row, rows)]
    return b"".join((*parts, packer.flush()))


def _repeated(row: bytes, rows: int) -> Iterator[bytes]:
    at_once = max(1, _BLOCK // len(row))
    yield from (row * at_once for _ in range(rows // at_once))
    yield row * (rows % at_once)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def webp(width: int, height: int) -> bytes:
    """Lossless and of one colour: a pixel takes no bit, so any size takes as many bytes."""
    data = bytearray(encode(Image.new("RGB", (1, 1), _COLOUR), "WEBP", lossless=True))
    bits = int.from_bytes(data[21:25], "little") & ~0xFFFFFFF | (width - 1) | (height - 1) << 14
    data[21:25] = bits.to_bytes(4, "little")
    return bytes(data)


def animation(frames: int) -> bytes:
    """A WebP of 49 megapixels in each frame."""
    images = [Image.new("RGB", (SIDE, SIDE), (level, 30, 30)) for level in range(frames)]
    return encode(images[0], "WEBP", save_all=True, append_images=images[1:], lossless=True, method=0)


def jpeg(width: int = SIDE, height: int = SIDE, **options: object) -> bytes:
    """One colour."""
    return encode(Image.new("RGB", (width, height), _COLOUR), "JPEG", **options)


def grainy(width: int, height: int, kind: str, grain: float = 12.0, **options: object) -> bytes:
    """Noise, as a camera's."""
    tile = np.random.default_rng(0).normal(128, grain, (_TILE, _TILE, 3)).clip(0, 255).astype(np.uint8)
    pixels = np.tile(tile, (-(-height // _TILE), -(-width // _TILE), 1))[:height, :width]
    return encode(Image.fromarray(pixels), kind, **options)


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = jpeg(progressive=True, subsampling=0)
    last = data[data.rindex(_SOS) : -2]
    return data[:-2] + last * (scans - data.count(_SOS)) + data[-2:]


def many_segments() -> bytes:
    """A small JPEG behind 10,000 comments."""
    data = jpeg(64, 64)
    return data[:2] + b"\xff\xfe\x00\x02" * 9_000 + data[2:]


def _big_metadata() -> bytes:
    text = _chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(100_000_000), 9))
    profile = _chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100_000_000), 9))
    return png(64, 64, 8, _RGB, before=text + profile)


def _one_colour(kind: str, mode: str = "RGB", side: int = SIDE, **options: object) -> bytes:
    return encode(Image.new(mode, (side, side)), kind, **options)


def _heic() -> bytes:
    import pillow_heif  # type: ignore[import-untyped,import-not-found,unused-ignore]

    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (SIDE, SIDE), _COLOUR)).save(stream)
    return stream.getvalue()


# Name -> what makes it.
BOMBS: dict[str, Callable[[], bytes]] = {
    "webp-lossless": lambda: webp(SIDE, SIDE),
    "webp-lossy": lambda: _one_colour("WEBP"),
    "webp-alpha": lambda: encode(Image.new("RGBA", (SIDE, SIDE), (*_COLOUR, 99)), "WEBP"),
    "webp-animated": lambda: animation(2),
    "webp-strip": lambda: webp(16_383, 3_000),
    "webp-grain": lambda: grainy(6000, 4000, "WEBP", method=0, quality=60),
    "webp-grain-lossless": lambda: grainy(3000, 2000, "WEBP", 6.0, lossless=True, method=0, quality=0),
    "png-rgb": lambda: png(SIDE, SIDE, 8, _RGB),
    "png-paeth": lambda: png(SIDE, SIDE, 8, _RGB, filter=_PAETH),
    "png-rgba": lambda: png(SIDE, SIDE, 8, _RGBA),
    "png-interlaced": lambda: png(SIDE, SIDE, 8, _RGB, True),
    "png-16-interlaced": lambda: png(SIDE, SIDE, 16, _RGB, True),
    "png-16-interlaced-rgba": lambda: png(SIDE, SIDE, 16, _RGBA, True, _PAETH),
    "png-16-key": lambda: png(SIDE, SIDE, 16, _RGB, True, before=_chunk(b"tRNS", bytes(6))),
    "png-grey-16": lambda: png(SIDE, SIDE, 16, _GREY),
    "png-1-bit": lambda: png(SIDE, SIDE, 1, _GREY),
    "png-palette": lambda: png(SIDE, SIDE, 8, _PALETTE),
    "png-many-chunks": lambda: png(SIDE, SIDE, 8, _RGB, chunk_bytes=16),
    "png-1-wide": lambda: png(1, 50_000_000, 8, _RGB),
    "png-1-high": lambda: png(50_000_000, 1, 8, _RGB),
    "png-metadata": _big_metadata,
    "png-grain": lambda: grainy(3000, 2000, "PNG", compress_level=1),
    "jpeg": jpeg,
    "jpeg-grain-40": lambda: grainy(7304, 5478, "JPEG", quality=85),
    "jpeg-progressive": lambda: jpeg(progressive=True),
    "jpeg-progressive-grain": lambda: grainy(7304, 5478, "JPEG", quality=75, progressive=True),
    "jpeg-100-scans": lambda: many_scans(100),
    "jpeg-restarts": lambda: jpeg(restart_marker_blocks=1),
    "jpeg-cmyk": lambda: _one_colour("JPEG", "CMYK"),
    "jpeg-strip": lambda: jpeg(65_000, 760),
    "jpeg-segments": many_segments,
    "avif": lambda: _one_colour("AVIF", speed=10),
    "avif-grain": lambda: grainy(3000, 2000, "AVIF", speed=10),
    "heic": _heic,
}
