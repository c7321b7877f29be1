"""WebP: the chunks that count for the pixels (https://developers.google.com/speed/webp/docs/riff_container)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from models.images.exif import MOST_BYTES, Metadata

_HEADER = 12  # "RIFF", size, "WEBP"
_NEEDED = (b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF")
_SPARE_CHUNKS = 10_000
_ALPHA, _ANIMATION = 0x10, 0x02  # flags of VP8X

_Chunk = tuple[bytes, int, int]


class WebpFile(NamedTuple):
    """What counts of a WebP file.

    Attributes:
        width: in pixels.
        height: likewise.
        metadata: EXIF and XMP.
        image: the file without any other chunk; of an animation the first frame.
        has_alpha: whether an alpha counts.
        is_lossless: whether it holds a lossless image.
        is_animated: whether it is, or says that it is, an animation.
    """

    width: int
    height: int
    metadata: Metadata
    image: bytes
    has_alpha: bool
    is_lossless: bool
    is_animated: bool


def read_webp(data: bytes) -> WebpFile:
    """Finds what counts; other chunks are skipped.

    Raises:
        ValueError: there are no pixels, or they do not tell their size.
    """
    chunks: dict[bytes, _Chunk] = {}
    for chunk in _chunks(data):
        chunks.setdefault(chunk[0], chunk)
    needed = [chunk for name, chunk in chunks.items() if name in _NEEDED]
    if not needed:
        raise ValueError("there are no pixels")
    width, height = _size(data, needed[0])
    content = b"".join(_packed(data, chunk) for chunk in needed)
    image = b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content
    exif, xmp = (_content(data, chunks.get(name)) for name in (b"EXIF", b"XMP "))
    flags = data[needed[0][1]] if needed[0][0] == b"VP8X" else 0
    is_animated = b"ANMF" in chunks or bool(flags & _ANIMATION)
    return WebpFile(
        width,
        height,
        Metadata(exif, xmp),
        image,
        bool(flags & _ALPHA) or (needed[0][0] == b"VP8L" and _has_alpha(data, needed[0])),
        b"VP8L" in chunks,
        is_animated,
    )


def _has_alpha(data: bytes, chunk: _Chunk) -> bool:
    """Of a lossless image: the bit behind its width and height."""
    return bool(data[chunk[1] + 4] & 0x10)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """(name, start, stop) of the contents of each chunk; the last may have been cut short."""
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    position = _HEADER
    for _ in range(_SPARE_CHUNKS + len(data) // 1024):
        if position + 8 > end:
            return
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4], position + 8, position + 8 + length
        position += 8 + length + length % 2


def _size(data: bytes, chunk: _Chunk) -> tuple[int, int]:
    """(width, height), by the first chunk that counts."""
    name, start, _ = chunk
    if name == b"VP8X":
        return 1 + int.from_bytes(data[start + 4 : start + 7], "little"), 1 + int.from_bytes(
            data[start + 7 : start + 10], "little"
        )
    if name == b"VP8 " and data[start + 3 : start + 6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, start + 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and data[start : start + 1] == b"\x2f":
        bits = int.from_bytes(data[start + 1 : start + 5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise ValueError("the size is not told")


def _packed(data: bytes, chunk: _Chunk) -> bytes:
    name, start, stop = chunk
    return name + struct.pack("<I", stop - start) + data[start:stop] + b"\0" * ((stop - start) % 2)


def _content(data: bytes, chunk: _Chunk | None) -> bytes | None:
    return None if chunk is None else data[chunk[1] : min(chunk[2], chunk[1] + MOST_BYTES)]
