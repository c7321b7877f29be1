"""EXIF and XMP: the orientation in every format and form, and whatever can be wrong with it."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from models.bundles.spec import PreprocessSpec
from models.images.exif import MOST_BYTES, Metadata
from models.images.preprocess import Preprocessor
from tests.models.image_files import (
    as_hex,
    chunk,
    entry,
    exif,
    orientation,
    photo,
    segment,
    with_chunks,
    with_riff_chunks,
    with_segments,
    xmp,
)

PREPROCESSOR = Preprocessor(PreprocessSpec(8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
SIZE = (40, 30)
JPEG, PNG = photo("JPEG", SIZE, quality=90), photo("PNG", SIZE)
WEBP = photo("WEBP", SIZE, lossless=True)
XMP = b"http://ns.adobe.com/xap/1.0/\0"


def in_itxt(content, compressed):
    text = zlib.compress(content) if compressed else content
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes((compressed, 0)) + b"\0\0" + text)


# How each format stores EXIF, and a plain file of it.
EXIF_PLACES = {
    "JPEG": (JPEG, lambda content: with_segments(JPEG, segment(0xE1, b"Exif\0\0" + content))),
    "JPEG, twice named": (JPEG, lambda content: with_segments(JPEG, segment(0xE1, b"Exif\0\0Exif\0\0" + content))),
    "PNG": (PNG, lambda content: with_chunks(PNG, before=chunk(b"eXIf", content))),
    "PNG, named": (PNG, lambda content: with_chunks(PNG, before=chunk(b"eXIf", b"Exif\0\0" + content))),
    "PNG, behind the pixels": (PNG, lambda content: with_chunks(PNG, after=chunk(b"eXIf", content))),
    "PNG, text": (
        PNG,
        lambda content: with_chunks(PNG, after=chunk(b"tEXt", b"Raw profile type exif\0" + as_hex(content))),
    ),
    "PNG, text of a JPEG's segment": (
        PNG,
        lambda content: with_chunks(
            PNG, after=chunk(b"tEXt", b"Raw profile type APP1\0" + as_hex(b"Exif\0\0" + content))
        ),
    ),
    "PNG, compressed text": (
        PNG,
        lambda content: with_chunks(
            PNG, before=chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(as_hex(content)))
        ),
    ),
    "WebP": (WEBP, lambda content: with_riff_chunks(WEBP, SIZE, (b"EXIF", content))),
    "WebP, named": (WEBP, lambda content: with_riff_chunks(WEBP, SIZE, (b"EXIF", b"Exif\0\0" + content))),
}
XMP_PLACES = {
    "JPEG": (JPEG, lambda content: with_segments(JPEG, segment(0xE1, XMP + content))),
    "PNG": (PNG, lambda content: with_chunks(PNG, before=in_itxt(content, False))),
    "PNG, compressed": (PNG, lambda content: with_chunks(PNG, after=in_itxt(content, True))),
    "WebP": (WEBP, lambda content: with_riff_chunks(WEBP, SIZE, (b"XMP ", content))),
}


def turned(data):
    """The image as it is set upright."""
    return np.asarray(PREPROCESSOR.open(data))


def short(value, order="<"):
    return struct.pack(f"{order}HH", value, 0)


@pytest.mark.parametrize("place", EXIF_PLACES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_turns_the_image_wherever_it_is_stored(place, order, value):
    plain, store = EXIF_PLACES[place]
    transposes = (None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM")
    transposes += ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    wanted = Image.fromarray(turned(plain))
    if transposes[value - 1]:
        wanted = wanted.transpose(Image.Transpose[transposes[value - 1]])
    assert np.array_equal(turned(store(orientation(value, order))), np.asarray(wanted))


@pytest.mark.parametrize("place", XMP_PLACES)
def test_xmp_turns_the_image_where_exif_says_nothing(place):
    plain, store = XMP_PLACES[place]
    assert np.array_equal(turned(store(xmp(3))), turned(plain)[::-1, ::-1])


BROKEN_EXIF = {
    "empty": b"",
    "no TIFF": b"this is no EXIF",
    "half a header": b"II*\0",
    "another kind of TIFF": b"II+\0" + orientation(3)[4:],
    "no directory": b"II*\0" + struct.pack("<I", 5000),
    "the directory begins in the header": b"II*\0" + struct.pack("<I", 4) + orientation(3)[8:],
    "the directory is its own header": b"II*\0\0\0\0\0",
    "more entries than there are": exif(entry(0x0100, 3, 1, short(3)), count=40_000),
    "no entries": exif(),
    "cut in an entry": orientation(3)[:15],
    "an unknown type": exif(entry(0x0112, 99, 1, short(3))),
    "a text": exif(entry(0x0112, 2, 2, b"3\0\0\0")),
    "no value": exif(entry(0x0112, 3, 0, short(3))),
    "values behind the end": exif(entry(0x0112, 3, 3, struct.pack("<I", 9000))),
    "four thousand million values": exif(entry(0x0112, 3, 0xFFFFFFFF, struct.pack("<I", 0xFFFFFFFF))),
    "zero": orientation(0),
    "nine": orientation(9),
    "much": orientation(65_535),
    "negative": exif(entry(0x0112, 9, 1, struct.pack("<i", -3))),
    "bytes in the wrong order": b"MM\0*" + orientation(3)[4:],
}


@pytest.mark.parametrize("content", BROKEN_EXIF.values(), ids=BROKEN_EXIF.keys())
@pytest.mark.parametrize("place", EXIF_PLACES)
def test_exif_that_cannot_be_read_costs_the_orientation_at_most(place, content):
    plain, store = EXIF_PLACES[place]
    assert np.array_equal(turned(store(content)), turned(plain))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0<", xmp(9), b"tiff:Orientation="])
@pytest.mark.parametrize("place", XMP_PLACES)
def test_xmp_that_cannot_be_read_costs_the_orientation_at_most(place, content):
    plain, store = XMP_PLACES[place]
    assert np.array_equal(turned(store(content)), turned(plain))


def test_xmp_speaks_where_exif_cannot_be_read():
    data = with_segments(JPEG, segment(0xE1, b"Exif\0\0no TIFF"), segment(0xE1, XMP + xmp(3)))
    assert np.array_equal(turned(data), turned(JPEG)[::-1, ::-1])


def test_exif_wins_over_xmp():
    data = with_segments(JPEG, segment(0xE1, XMP + xmp(3)), segment(0xE1, b"Exif\0\0" + orientation(1)))
    assert np.array_equal(turned(data), turned(JPEG))


@pytest.mark.parametrize("kind", ["B", "H", "I", "b", "h", "i"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 100])
def test_of_several_values_of_any_whole_type_the_first_counts(kind, count):
    number = {"B": 1, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9}[kind]
    values = struct.pack(f"<{count}{kind}", 6, *[3] * (count - 1))
    inline = values.ljust(4, b"\0") if len(values) <= 4 else struct.pack("<I", 26)
    content = exif(entry(0x0112, number, count, inline), behind=values if len(values) > 4 else b"")
    assert Metadata(content).orientation == 6


@pytest.mark.parametrize(
    "text", ["tiff:Orientation='8'", 'tiff:Orientation = "8"', "<tiff:Orientation>8</tiff:Orientation>"]
)
def test_xmp_is_read_as_an_attribute_or_an_element(text):
    assert Metadata(None, text.encode()).orientation == 8


@given(st.binary(max_size=60), st.binary(max_size=60))
@example(b"II*\0\x08\0\0\0", b"")
def test_any_bytes_give_an_orientation(content, text):
    for head in (b"", b"II*\0", b"MM\0*", orientation(3)[:14]):
        assert isinstance(Metadata(head + content, text).orientation, int)


def test_metadata_is_looked_at_no_further_than_it_pays():
    behind = b" " * MOST_BYTES + xmp(3)
    assert Metadata(None, behind).orientation == 1
    assert Metadata(exif(*[entry(0x0100, 3, 1, short(1))] * 5000, entry(0x0112, 3, 1, short(3)))).orientation == 1
