"""Which kind of file some bytes are, by their first bytes (https://en.wikipedia.org/wiki/List_of_file_signatures)."""

from __future__ import annotations

from typing import NamedTuple

SUPPORTED = ("JPEG", "PNG", "WEBP")

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
# Brands of ISO base media files, ISO/IEC 14496-12: 4 bytes size, "ftyp", 4 bytes brand.
_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"avif": "AVIF",
    b"avis": "AVIF",
}


class Format(NamedTuple):
    """A recognised kind of file; `name` is None when the bytes are like nothing known."""

    name: str | None
    supported: bool


def sniff(data: bytes | bytearray | memoryview) -> Format:
    """Tells the format from the first 16 bytes."""
    name = _name(bytes(data[:16]))
    return Format(name, name in SUPPORTED)


def _name(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "MP4 or HEIF")
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)
