"""WebP: chunks that do not count for the pixels, and sizes that are told before a canvas is made."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from models.bundles.spec import PreprocessSpec
from models.errors import TooManyPixels, UndecodableImage
from models.images.preprocess import Preprocessor
from tests.models.image_files import encoded, orientation, photo, riff, with_riff_chunks

PREPROCESSOR = Preprocessor(PreprocessSpec(8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
SIZE = (40, 30)
PLAIN = {"lossy": photo("WEBP", SIZE, quality=90), "lossless": photo("WEBP", SIZE, lossless=True)}


def pixels_of(data):
    return np.asarray(PREPROCESSOR.open(data))


ANCILLARY = {
    "profile": (b"ICCP", b"no profile"),
    "empty profile": (b"ICCP", b""),
    "large profile": (b"ICCP", bytes(5_000_000)),
    "XMP": (b"XMP ", b"\xff\xfe<"),
    "large XMP": (b"XMP ", b"<" * 5_000_000),
    "EXIF": (b"EXIF", b"no EXIF"),
    "unknown": (b"abcd", b"anything"),
    "unknown of an odd size": (b"abcd", b"odd"),
    "unknown with an odd name": (b"\0\xff \n", b""),
}


@pytest.mark.parametrize("plain", PLAIN)
@pytest.mark.parametrize("extra", ANCILLARY.values(), ids=ANCILLARY.keys())
def test_chunks_that_do_not_count_for_the_pixels_do_not_decide(plain, extra):
    data = with_riff_chunks(PLAIN[plain], SIZE, extra)
    assert np.array_equal(pixels_of(data), pixels_of(PLAIN[plain]))


@pytest.mark.parametrize("flags", [0, 0x20, 0x08, 0x04, 0x2C])
def test_metadata_that_is_announced_and_missing_does_not_decide(flags):
    data = with_riff_chunks(PLAIN["lossy"], SIZE, flags=flags)
    assert np.array_equal(pixels_of(data), pixels_of(PLAIN["lossy"]))


def test_metadata_that_is_cut_short_does_not_decide():
    whole = with_riff_chunks(PLAIN["lossy"], SIZE, (b"XMP ", b"<x>" * 100))
    assert np.array_equal(pixels_of(whole[:-150]), pixels_of(PLAIN["lossy"]))


def test_bytes_behind_the_end_do_not_count():
    data = PLAIN["lossy"] + b"EXIF" + struct.pack("<I", 26) + orientation(3)
    assert np.array_equal(pixels_of(data), pixels_of(PLAIN["lossy"]))


def test_of_an_animation_only_the_first_frame_decides():
    frames = [Image.effect_noise(SIZE, 80).convert("RGB") for _ in range(3)]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    assert np.array_equal(pixels_of(bytes(data)), np.asarray(frames[0]))
    last = data.rindex(b"ANMF") + 24
    data[last:-1] = bytes(len(data) - 1 - last)  # not even an image
    assert np.array_equal(pixels_of(bytes(data)), np.asarray(frames[0]))


def test_alpha_survives():
    pixels = np.zeros((30, 40, 4), np.uint8)
    pixels[:, :20, 3] = 255
    for lossless in (True, False):
        data = encoded(Image.fromarray(pixels), "WEBP", lossless=lossless, exif=b"no EXIF")
        got = pixels_of(data)
        assert got[:, :16].max() < 8
        assert got[:, 24:].min() > 247


def huge(name):
    """A header of 16,000 x 16,000 pixels."""
    if name == b"VP8X":
        return riff((name, bytes(4) + struct.pack("<I", 15_999)[:3] * 2), (b"VP8 ", bytes(30)))
    if name == b"VP8L":
        return riff((name, b"\x2f" + struct.pack("<I", 15_999 | 15_999 << 14) + bytes(30)))
    return riff((name, b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_000, 16_000) + bytes(30)))


@pytest.mark.parametrize("name", [b"VP8X", b"VP8L", b"VP8 "])
def test_the_pixels_are_counted_before_there_is_a_canvas(name, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: pytest.fail("opened"))
    with pytest.raises(TooManyPixels) as refusal:
        pixels_of(huge(name))
    assert refusal.value.actual == 16_000 * 16_000


@pytest.mark.parametrize(
    "data",
    [
        riff(),
        riff((b"abcd", b"")),
        riff((b"VP8X", b"")),
        riff((b"VP8X", bytes(10))),
        riff((b"VP8 ", bytes(30))),
        riff((b"VP8L", b"")),
        riff((b"ALPH", bytes(30))),
        PLAIN["lossy"][:60],
        b"RIFF\0\0\0\0WEBP",
        b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff",
    ],
    ids=range(10),
)
def test_what_holds_no_image_is_damage(data):
    with pytest.raises(UndecodableImage):
        pixels_of(data)


def test_millions_of_empty_chunks_are_not_gone_through():
    name, content = PLAIN["lossy"][12:16], PLAIN["lossy"][20:]
    with pytest.raises(UndecodableImage):
        pixels_of(riff(*[(b"abcd", b"")] * 200_000, (name, content)))


def test_metadata_of_any_size_costs_no_memory():
    data = with_riff_chunks(PLAIN["lossy"], SIZE, (b"XMP ", b"<" * 20_000_000))
    tracemalloc.start()
    pixels_of(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
