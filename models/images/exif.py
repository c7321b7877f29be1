"""The orientation of an image, by its EXIF or XMP. Unreadable metadata is ignored."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

# So much of one block of metadata is looked at, and unpacked where it is compressed. The orientation stands in the
# first directory of EXIF, near the beginning.
MOST_BYTES = 1 << 18

_ORIENTATION = 0x0112  # Exif 2.32, tag 274
_MOST_ENTRIES = 4096
_PREFIX = b"Exif\0\0"
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
# Whole numbers of TIFF 6.0, section 2. SHORT is right; others are written too.
_KINDS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])""")


class Metadata(NamedTuple):
    """The blocks of a file that may say which way up its image is.

    Attributes:
        exif: a TIFF file, with or without "Exif" before it, or None.
        xmp: XML, or None.
    """

    exif: bytes | None = None
    xmp: bytes | None = None

    @property
    def orientation(self) -> int:
        """1 to 8, or another number of EXIF's; 1 where there is none. EXIF beats XMP."""
        found = _of_exif(self.exif) if self.exif else None
        if found is None and self.xmp:
            found = _of_xmp(self.xmp)
        return 1 if found is None else found


def _of_exif(exif: bytes) -> int | None:
    """The first value of the orientation, or None where it has none or cannot be read."""
    tiff = exif[:MOST_BYTES]
    while tiff.startswith(_PREFIX):  # some writers put it twice
        tiff = tiff[len(_PREFIX) :]
    order = _ORDERS.get(tiff[:4])
    try:
        return None if order is None else _of_directory(tiff, order)
    except struct.error:
        return None


def _of_directory(tiff: bytes, order: str) -> int | None:
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for number in range(min(entries, _MOST_ENTRIES)):
        entry = directory + 2 + 12 * number
        tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, entry)
        if tag == _ORIENTATION and kind in _KINDS and count:
            return _value(tiff, order, entry + 8, _KINDS[kind], count)
    return None


def _value(tiff: bytes, order: str, position: int, kind: str, count: int) -> int:
    """The first of `count` values; up to four bytes stand in the entry itself, more where it points to."""
    if struct.calcsize(f"={kind}") * count > 4:
        (position,) = struct.unpack_from(f"{order}I", tiff, position)
    (value,) = struct.unpack_from(order + kind, tiff, position)
    return int(value)


def _of_xmp(xmp: bytes) -> int | None:
    found = _XMP_ORIENTATION.search(xmp, 0, MOST_BYTES)
    return int(found[1]) if found else None
