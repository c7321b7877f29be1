"""What may take long is told by the first bytes."""

from __future__ import annotations

import pytest

from models.images.glance import may_take_long
from tests.models.image_files import RGB, encoded, photo, png, riff, segment, with_chunks, with_segments

SOF = (0xC0, 0xC2)


def jpeg(width, height, process=0xC0, components=3, in_scan=3, scans=1):
    """The headers of a JPEG, and nothing behind them."""
    frame = segment(
        process, bytes((8, *height.to_bytes(2), *width.to_bytes(2), components)) + bytes(3 * components)
    )
    scan = segment(0xDA, bytes((in_scan,)) + bytes(2 * in_scan + 3))
    return b"\xff\xd8" + segment(0xE0, b"JFIF\0" + bytes(9)) + frame + scan * scans + b"\xff\xd9"


def webp(name, size):
    width, height = size
    content = {
        b"VP8 ": b"\0\0\0\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little"),
        b"VP8L": b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(5),
        b"VP8X": bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
    }
    return riff((name, content[name]))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_photo_of_a_web_page_does_not(format):
    data = photo(format, (500, 700))
    for kind in (bytes, bytearray, memoryview):
        assert not may_take_long(kind(data))


@pytest.mark.parametrize("file", [jpeg(5000, 4000), jpeg(7000, 7000, 0xC2), png([[[0, 0, 0]]], 8, RGB)])
def test_what_has_many_pixels_does(file):
    if file.startswith(b"\x89PNG"):
        file = file[:16] + (7000).to_bytes(4) * 2 + file[24:]
    assert may_take_long(file)


@pytest.mark.parametrize("name", [b"VP8 ", b"VP8L", b"VP8X"])
def test_so_does_every_kind_of_webp(name):
    assert may_take_long(webp(name, (7000, 7000)))
    assert not may_take_long(webp(name, (700, 500)))


def test_many_scans_count():
    assert not may_take_long(jpeg(1000, 1000, 0xC2, in_scan=1, scans=10))
    assert may_take_long(jpeg(1000, 1000, 0xC2, in_scan=1, scans=90))
    assert may_take_long(jpeg(1000, 1000, 0xC0, in_scan=1, scans=90)), "a baseline JPEG in parts, too"
    assert not may_take_long(jpeg(400, 400, 0xC2, in_scan=1, scans=90)), "of few pixels never"


@pytest.mark.parametrize(
    "file",
    [
        with_segments(jpeg(7000, 7000), *[segment(0xFE)] * 60),
        b"\xff\xd8\xff\xff" + jpeg(7000, 7000)[2:],
        b"\xff\xd8\xff\x01" + jpeg(7000, 7000)[2:],
        with_chunks(png([[[0, 0, 0]]], 8, RGB))[:12] + b"abCd" + bytes(20),
        riff((b"ABCD", bytes(10)), (b"VP8L", bytes(10))),
        photo("JPEG") + bytes(2_000_000),
        b"\0\0\0\x1cftypavif" + bytes(20),
    ],
    ids=["behind segments", "fill bytes", "no segment", "no header", "behind a chunk", "many bytes", "AVIF"],
)
def test_what_hides_its_size_counts_as_long(file):
    assert may_take_long(file)


@pytest.mark.parametrize("file", [b"", b"\xff", b"hello", b"GIF89a" + bytes(50), b"%PDF-"])
def test_what_is_no_image_does_not(file):
    assert not may_take_long(file)


def test_real_files_of_each_kind_are_read_as_they_are_written():
    from PIL import Image

    big = Image.new("RGB", (2500, 2500))
    for format in ("PNG", "WEBP", "JPEG"):
        assert may_take_long(encoded(big, format))
