"""Whether an image may take long to decode, by its first bytes: cheap enough for an event loop."""

from __future__ import annotations

from models.images.formats import OPTIONAL, sniff
from models.images.jpeg_file import MAX_SCANS

# About 20 ms, ten times a photo of 500 x 700. What is larger goes to the other lane, behind no small image.
_MOST_PNG_PIXELS, _MOST_WEBP_PIXELS, _MOST_JPEG_PIXELS = 1_000_000, 1_000_000, 6_000_000
_MOST_BYTES = 1_000_000
_MOST_PASSES = 20_000_000  # pixels times scans of a JPEG
_FEW_PIXELS = _MOST_PASSES // MAX_SCANS
_SEGMENTS = 48  # of a JPEG, in front of its pixels
_SOS = 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xCA)


def may_take_long(data: bytes | bytearray | memoryview) -> bool:
    """True where it may, or does not tell within its first bytes.

    What is no image that is decoded here does not take long. The exact estimate is made where it is decoded
    (cost.py).
    """
    name = sniff(data).name
    if name == "JPEG":
        return _is_long_jpeg(data)
    if name == "PNG":
        return len(data) > _MOST_BYTES or _pixels_of_png(data) > _MOST_PNG_PIXELS
    if name == "WEBP":
        return len(data) > _MOST_BYTES or _pixels_of_webp(data) > _MOST_WEBP_PIXELS
    return name in OPTIONAL  # their size stands anywhere


def _is_long_jpeg(data: bytes | bytearray | memoryview) -> bool:
    """Follows the segments to the first scan."""
    if len(data) > _MOST_BYTES:
        return True
    position, pixels, process, components = 2, 0, 0, 0
    for _ in range(_SEGMENTS):
        head = data[position : position + 10]
        if len(head) < 10 or head[0] != 0xFF:
            return True  # not as encoders write it
        marker = head[1]
        if marker in _FRAMES:
            pixels, process, components = (head[5] << 8 | head[6]) * (head[7] << 8 | head[8]), marker, head[9]
            if pixels <= _FEW_PIXELS or pixels > _MOST_JPEG_PIXELS:
                return pixels > _FEW_PIXELS
        elif marker == _SOS:
            in_passes = process in _PROGRESSIVE or head[4] != components
            return in_passes and pixels * _count_scans(data) > _MOST_PASSES
        elif marker < 0xC0 or marker == 0xFF:
            return True
        position += 2 + (head[2] << 8 | head[3])
    return True


def _count_scans(data: bytes | bytearray | memoryview) -> int:
    """At least as many as there are: what is in other segments counts."""
    return bytes(data).count(b"\xff\xda")


def _pixels_of_png(data: bytes | bytearray | memoryview) -> int:
    if bytes(data[12:16]) != b"IHDR":
        return _MOST_PNG_PIXELS + 1
    return int.from_bytes(data[16:20]) * int.from_bytes(data[20:24])


def _pixels_of_webp(data: bytes | bytearray | memoryview) -> int:
    name, head = bytes(data[12:16]), bytes(data[20:30])
    if len(head) < 10:
        return 0  # there are no pixels
    if name == b"VP8X":
        return (1 + int.from_bytes(head[4:7], "little")) * (1 + int.from_bytes(head[7:10], "little"))
    if name == b"VP8 ":
        return (int.from_bytes(head[6:8], "little") & 0x3FFF) * (int.from_bytes(head[8:10], "little") & 0x3FFF)
    if name == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    return _MOST_WEBP_PIXELS + 1  # something stands in front
