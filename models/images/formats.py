"""Which kind of file some bytes are, by their first bytes (https://en.wikipedia.org/wiki/List_of_file_signatures)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

from PIL import features

SUPPORTED = ("JPEG", "PNG", "WEBP")
OPTIONAL = ("HEIC", "AVIF")  # off unless they are asked for
IMAGES = SUPPORTED + OPTIONAL

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"BM", "BMP"),
    (b"%PDF-", "PDF"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"8BPS", "PSD"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
    (b"<!DOCTYPE html", "HTML"),
    (b"<html", "HTML"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
)
_STRIPPED = (b"\xff\xd8\xff", b"\x89PNG\x1a", b"RIFF")  # of the formats above, without NUL, CR and LF
_FIRST_BYTES = frozenset(magic[0] for magic, _ in _MAGIC)
# Brands of ISO base media files, ISO/IEC 14496-12: 4 bytes size, "ftyp", 4 bytes brand, 4 bytes version, further
# brands.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
_ANY_CODEC = (b"mif1", b"mif2", b"msf1", b"miaf")  # the further brands tell
_SNIFFED_BYTES = 64


class Format(NamedTuple):
    """A recognised kind of file; `name` is None for an unknown one."""

    name: str | None
    supported: bool


def sniff(data: bytes | bytearray | memoryview, accepted: Sequence[str] = SUPPORTED) -> Format:
    """Tells the format from the first 64 bytes; accepted: the formats that count as supported."""
    name = _name(bytes(data[:_SNIFFED_BYTES]))
    return Format(name, name in accepted)


def is_stripped(data: bytes | bytearray | memoryview) -> bool:
    """Whether an image has lost its NUL, CR and LF bytes: every whole JPEG, PNG or WebP file has some of them."""
    is_image = len(data) >= _SNIFFED_BYTES and bytes(data[:5]).startswith(_STRIPPED)
    return is_image and not any(byte in data for byte in b"\0\r\n")


def installation(name: str) -> str | None:
    """How to install what decodes a format of `SUPPORTED` or `OPTIONAL`; None: it is there."""
    if name == "HEIC" and find_spec("pillow_heif") is None:
        return "pip install 'snapserve[heif]'"
    if name == "AVIF" and not features.check("avif"):
        return "pip install --force-reinstall 'pillow>=12.3'"
    return None


def check_formats(names: Sequence[str]) -> None:
    """Raises ValueError, with one line, for the first that is unknown or has no decoder here."""
    for name in names:
        if name not in SUPPORTED + OPTIONAL:
            raise ValueError(f"{name} is not one of {', '.join(SUPPORTED + OPTIONAL)}")
        if line := installation(name):
            raise ValueError(f"{name} cannot be decoded by what is installed: {line}")


def _name(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _name_of_brands(head)
    if not head or head[0] not in _FIRST_BYTES:  # the usual case: the boundary of a form
        return None
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def _name_of_brands(head: bytes) -> str:
    major = head[8:12]
    if major not in _ANY_CODEC:
        return _BRANDS.get(major, "MP4 or HEIF")
    length = min(len(head), int.from_bytes(head[:4]))
    further = (head[start : start + 4] for start in range(16, length, 4))
    return next((_BRANDS[brand] for brand in further if brand in _BRANDS), "HEIF")
