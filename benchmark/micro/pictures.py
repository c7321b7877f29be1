"""The pictures that are measured: those of `images/`, and what is made of them in memory."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.server_process import ROOT

PORTRAIT = ROOT / "images" / "astronaut-portrait.jpg"  # 498 x 720, 64 KB
PHOTOS = tuple(
    ROOT / "images" / name for name in ("astronaut-portrait.jpg", "cat.jpg", "coffee.png", "rocket.webp")
)
_GRAIN = 6.0  # levels; gives a 12-megapixel JPEG the entropy of a camera's, 3 MB


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(path: Path, size: tuple[int, int] | None = None, grain: float = 0.0, seed: int = 0) -> Image.Image:
    """A photo in RGB, enlarged or reduced, with a camera's noise of `grain` levels."""
    image = Image.open(path).convert("RGB")
    image = image.resize(size, Image.Resampling.BICUBIC) if size else image
    noise = np.random.default_rng(seed).normal(0, grain, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def twelve_megapixels() -> bytes:
    """A JPEG of 4000 x 3000 pixels, of the usual quality, with a camera's noise."""
    return encode(photo(PORTRAIT, (3000, 4000), _GRAIN).transpose(Image.Transpose.ROTATE_90), quality=90)


def mixture(seed: int = 0) -> list[bytes]:
    """Files as a server meets them: small and middling, of every format and mode, and 3 in 7 malformed."""
    generator = np.random.default_rng(seed)
    sound = [file for path in PHOTOS for file in _variants(path)]
    broken = [_damaged(file, generator) for file in sound]
    cut = [file[: int(len(file) * generator.uniform(0.1, 0.98))] for file in sound[::2]]
    return [*sound, *sound, *broken, *cut, *_impostors()]


def _variants(path: Path) -> list[bytes]:
    files = []
    for size in ((48, 32), (200, 320), (640, 427)):
        image = photo(path, size)
        files += [encode(image, kind) for kind in ("JPEG", "PNG", "WEBP")]
        files += [encode(image, progressive=True), encode(image.convert("L")), encode(image.convert("CMYK"))]
        files += [encode(image.convert("RGBA"), "PNG"), encode(image.quantize(64), "PNG")]
    return [*files, encode(photo(path, (1600, 1200)))]


def _damaged(file: bytes, generator: np.random.Generator) -> bytes:
    """Some bits flipped, anywhere but in the first bytes, which tell the format."""
    data = bytearray(file)
    for place in generator.integers(16, len(data), 8):
        data[place] ^= 1 << int(generator.integers(8))
    return bytes(data)


def _impostors() -> list[bytes]:
    """Wrong magic bytes, empty files, and a header that promises 2,500 megapixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT"
    return [
        bomb,
        b"GIF89a" + bytes(100),
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff" + bytes(5000),
        b"RIFF____WEBP" + bytes(99),
    ]
