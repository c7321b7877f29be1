"""Image files made by hand, with what encoders do not write."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(format, size=(40, 30), **options):
    """An image in which each turn and each lost pixel shows."""
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    pixels = np.stack([across * 5, down * 7, (across + down) * 3], axis=2).astype(np.uint8)
    return encoded(Image.fromarray(pixels), format, **options)


def chunk(name, content, checksum=None):
    """One chunk of a PNG."""
    if checksum is None:
        checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(samples, depth, colour, before=b"", after=b"", interlaced=False):
    """A PNG without Pillow.

    Args:
        samples: whole numbers [height, width, bands], of `depth` bits.
        depth: 1, 2, 4, 8 or 16.
        colour: type.
        before: chunks between header and pixels.
        after: chunks behind the pixels.
        interlaced: whether in Adam7's seven passes.
    """
    samples = np.asarray(samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, interlaced)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [samples[top::down, left::across] for left, top, across, down in passes]
    pixels = b"".join(_rows(part, depth) for part in parts if part.size)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(pixels)) + after
    return SIGNATURE + body + chunk(b"IEND", b"")


def _rows(samples, depth):
    """Each row behind its filter, which is none."""
    bits = (samples.reshape(len(samples), -1, 1) >> np.arange(depth)[::-1]) & 1
    packed = np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def with_chunks(data, before=b"", after=b""):
    """A PNG with further chunks behind its header and behind its pixels."""
    return data[:33] + before + data[33:-12] + after + data[-12:]


def segment(marker, content=b""):
    """One segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content


def with_segments(data, *segments):
    """A JPEG with further segments behind its first marker."""
    return data[:2] + b"".join(segments) + data[2:]


def riff(*chunks):
    """A WebP of (name, content)."""
    packed = (
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks
    )
    content = b"WEBP" + b"".join(packed)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def with_riff_chunks(data, size, *chunks, flags=0x2C):
    """A simple WebP made an extended one, with further chunks behind its pixels; flags: ICC, EXIF and XMP."""
    width, height = (struct.pack("<I", side - 1)[:3] for side in size)
    length = struct.unpack_from("<I", data, 16)[0]
    return riff(
        (b"VP8X", bytes((flags, 0, 0, 0)) + width + height), (data[12:16], data[20 : 20 + length]), *chunks
    )


def entry(tag, kind, count, value, order="<"):
    """An entry of a TIFF directory; value: its four bytes."""
    return struct.pack(f"{order}HHI", tag, kind, count) + value


def exif(*entries, order="<", count=None, behind=b""):
    """A TIFF file of one directory; count: of the entries, as it is told."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    number = struct.pack(f"{order}IH", 8, len(entries) if count is None else count)
    return head + number + b"".join(entries) + struct.pack(f"{order}I", 0) + behind


def orientation(value, order="<"):
    """EXIF that says how the image is turned, 1 to 8."""
    return exif(entry(0x0112, 3, 1, struct.pack(f"{order}HH", value, 0), order), order=order)


def as_hex(content):
    """How ImageMagick stores EXIF in a text of PNG."""
    digits = content.hex().encode()
    lines = [digits[start : start + 72] for start in range(0, len(digits), 72)]
    return b"\nexif\n%8d\n" % len(content) + b"\n".join(lines) + b"\n"


def xmp(value):
    return b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % value
