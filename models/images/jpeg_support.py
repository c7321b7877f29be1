"""What Pillow's libjpeg was built with: tried with the smallest files there are."""

from __future__ import annotations

import struct
from functools import lru_cache
from io import BytesIO

from PIL import Image

ARITHMETIC = "arithmetic-coded JPEG"
LOSSLESS = "lossless JPEG"


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content


def _file(process: int, tables: bytes, parameters: bytes) -> bytes:
    """8 x 8 pixels of grey: a frame and a scan of one component, coded as zeros."""
    frame = _segment(process, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0))
    scan = _segment(0xDA, b"\1\1\0" + parameters) + bytes(16)
    return b"\xff\xd8" + tables + frame + scan + b"\xff\xd9"


_FILES = {
    ARITHMETIC: _file(0xC9, _segment(0xDB, bytes(1) + b"\1" * 64), b"\0\x3f\0"),
    LOSSLESS: _file(0xC3, _segment(0xC4, b"\0\1" + bytes(15) + b"\0"), b"\1\0\0"),  # one code: no difference
}


@lru_cache
def can_decode(kind: str) -> bool:
    """Whether `ARITHMETIC` or `LOSSLESS` is decoded here; libjpeg-turbo has the latter since version 3."""
    try:
        with Image.open(BytesIO(_FILES[kind]), formats=("JPEG",)) as image:
            image.load()
    except OSError:
        return False
    return True
