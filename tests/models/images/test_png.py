"""PNG: transparent colours of every depth, and chunks that do not count for the pixels."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from models.bundles.spec import PreprocessSpec
from models.errors import TooManyPixels, UndecodableImage, UnsupportedImage
from models.images.preprocess import Preprocessor
from tests.models.image_files import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    SIGNATURE,
    chunk,
    encoded,
    photo,
    png,
    with_chunks,
)

PREPROCESSOR = Preprocessor(PreprocessSpec(8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
BOMB = zlib.compress(bytes(300_000_000), 9)  # 300 kB


def pixels_of(data):
    """[height, width, 1 or 3]"""
    return np.atleast_3d(np.asarray(PREPROCESSOR.open(data)))


def samples_of(depth, bands, size=(13, 11), levels=4):
    """Samples that often agree in some bits or bands, and seldom in all: the first is never alone."""
    random = np.random.default_rng(depth * 10 + bands)
    values = random.integers(0, 1 << depth, levels)
    values[0] = values[1] ^ 1  # neighbours: of 16 bits the high byte is the same
    samples = random.choice(values, (size[1], size[0], bands))
    samples[0, 0] = samples[5, 7] = values[0]
    return samples


def as_bytes(samples, depth):
    """8 bits of each sample, by the standard's own words: stretched linearly, or the high byte."""
    return samples >> 8 if depth == 16 else samples * 255 // ((1 << depth) - 1)


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(
    ("depth", "colour"), [(1, GREY), (2, GREY), (4, GREY), (8, GREY), (16, GREY), (8, RGB), (16, RGB)]
)
def test_a_transparent_colour_is_white_where_all_its_bits_agree(depth, colour, interlaced):
    bands = 1 if colour == GREY else 3
    samples = samples_of(depth, bands, levels=2 if depth == 1 else 4)
    key = samples[0, 0]
    wanted = as_bytes(samples, depth)
    transparent = (samples == key).all(2)
    assert 1 < transparent.sum() < transparent.size
    wanted[transparent] = 255
    # Bits beyond the depth do not count: 11.3.1.1 of the standard.
    odd = key | (~((1 << depth) - 1) & 0xFFFF)
    for stored in (key, odd):
        before = chunk(b"tRNS", struct.pack(f">{bands}H", *map(int, stored)))
        got = pixels_of(png(samples, depth, colour, before=before, interlaced=interlaced))
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize(
    ("depth", "colour"),
    [(1, GREY), (2, GREY), (4, GREY), (8, GREY), (16, GREY), (8, RGB), (16, RGB)],
)
def test_without_a_transparent_colour_the_samples_are_what_they_are(depth, colour):
    samples = samples_of(depth, 1 if colour == GREY else 3, levels=2 if depth == 1 else 4)
    assert np.array_equal(pixels_of(png(samples, depth, colour)), as_bytes(samples, depth))


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("depth", "colour"), [(8, GREY_ALPHA), (16, GREY_ALPHA), (8, RGBA), (16, RGBA)])
def test_alpha_is_laid_on_white(depth, colour, interlaced):
    bands = 2 if colour == GREY_ALPHA else 4
    samples = np.random.default_rng(bands).integers(0, 1 << depth, (11, 13, bands))
    levels = as_bytes(samples, depth)
    alpha = levels[..., -1:] / 255
    wanted = np.broadcast_to(np.floor(levels[..., :-1] * alpha + 255 * (1 - alpha) + 0.5), (11, 13, 3))
    assert np.array_equal(pixels_of(png(samples, depth, colour, interlaced=interlaced)), wanted)


@pytest.mark.parametrize("alphas", [b"", b"\0", b"\x80\xff\0", b"\xff\0\x0a", b"\0" * 4, b"\x40" * 300])
@pytest.mark.parametrize("depth", [2, 4, 8])
def test_a_palette_may_have_fewer_or_more_alphas_than_colours(depth, alphas):
    """Of three alphas the last is 10, a line feed, which Pillow takes for the end of a text."""
    colours = np.array([[200, 100, 40], [10, 20, 30], [255, 0, 255], [0, 90, 0]])
    indices = np.arange(20).reshape(4, 5, 1) % 4
    alpha = np.array([*alphas[:4], 255, 255, 255, 255][:4])[:, None] / 255
    wanted = np.floor(colours * alpha + 255 * (1 - alpha) + 0.5)[indices[..., 0]]
    before = chunk(b"PLTE", colours.astype(np.uint8).tobytes()) + (chunk(b"tRNS", alphas) if alphas else b"")
    assert np.array_equal(pixels_of(png(indices, depth, PALETTE, before=before)), wanted)


def test_a_colour_that_the_palette_lacks_is_black():
    before = chunk(b"PLTE", bytes((200, 100, 40)))
    assert np.array_equal(pixels_of(png([[[0], [3]]], 2, PALETTE, before=before)), [[[200, 100, 40], [0, 0, 0]]])


def test_transparency_where_it_may_not_stand_is_ignored():
    alphas = chunk(b"tRNS", bytes(6))
    for colour, bands in ((GREY_ALPHA, 2), (RGBA, 4)):
        samples = np.full((4, 4, bands), 255)
        samples[..., 0] = 0
        assert np.array_equal(
            pixels_of(png(samples, 8, colour, before=alphas)), pixels_of(png(samples, 8, colour))
        )
    black = png(np.zeros((4, 4, 3), int), 8, RGB, after=alphas)
    assert pixels_of(black).max() == 0, "behind the pixels it comes too late"


@pytest.mark.parametrize("content", [bytes(1), bytes(5)], ids=["grey", "RGB"])
def test_a_transparent_colour_that_is_cut_short_is_damage(content):
    colour, bands = (GREY, 1) if len(content) == 1 else (RGB, 3)
    with pytest.raises(UndecodableImage):
        pixels_of(png(np.zeros((4, 4, bands), int), 8, colour, before=chunk(b"tRNS", content)))


def compressed(keyword, content=BOMB):
    return chunk(b"zTXt", keyword + b"\0\0" + content)


def international(keyword, content=BOMB, flags=b"\1\0"):
    return chunk(b"iTXt", keyword + b"\0" + flags + b"en\0\0" + content)


ANCILLARY = {
    "text": chunk(b"tEXt", b"Comment\0" + b"text " * 400_000),
    "text without an end": chunk(b"tEXt", b"Comment"),
    "empty text": chunk(b"tEXt", b""),
    "compressed text": compressed(b"workflow"),
    "compressed text of an unknown method": chunk(b"zTXt", b"workflow\0\7" + bytes(9)),
    "broken compressed text": compressed(b"workflow", b"no zlib"),
    "much compressed text": compressed(b"workflow") * 50,
    "international text": international(b"workflow", "ä".encode() * 900_000, b"\0\0"),
    "compressed international text": international(b"workflow"),
    "international text of an unknown method": international(b"workflow", flags=b"\1\7"),
    "international text that is cut short": chunk(b"iTXt", b"workflow\0\1"),
    "international text that is not UTF-8": international(b"workflow", b"\xff\xfe\xfd", b"\0\0"),
    "profile": chunk(b"iCCP", b"profile\0\0" + BOMB),
    "broken profile": chunk(b"iCCP", b"profile\0\0no zlib"),
    "profile of an unknown method": chunk(b"iCCP", b"profile\0\7" + BOMB),
    "empty profile": chunk(b"iCCP", b""),
    "profile with no end of its name": chunk(b"iCCP", b"p" * 200),
    "EXIF, a bomb": compressed(b"Raw profile type exif"),
    "EXIF, no hexadecimal digits": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 2\nxy\n"),
    "EXIF, not compressed": compressed(b"Raw profile type exif", b"no zlib"),
    "XMP, a bomb": international(b"XML:com.adobe.xmp"),
    "EXIF, long": chunk(b"eXIf", b"II*\0" * 500_000),
    "gamma": chunk(b"gAMA", b""),
    "chromaticities": chunk(b"cHRM", b"\0"),
    "physical size": chunk(b"pHYs", b"\0"),
    "time": chunk(b"tIME", b"\xff"),
    "colour space": chunk(b"sRGB", b""),
    "significant bits": chunk(b"sBIT", b"\xff" * 9),
    "background": chunk(b"bKGD", b""),
    "histogram": chunk(b"hIST", b"\1"),
    "suggested palette": chunk(b"sPLT", b"\1"),
    "animation": chunk(b"acTL", b"") + chunk(b"fcTL", b"\1"),
    "unknown": chunk(b"prVt", b"anything" * 1000),
    "unknown, without contents": chunk(b"prVt", b""),
    "a wrong checksum": chunk(b"tEXt", b"Comment\0text", checksum=1),
    "a profile with a wrong checksum": chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"p"), checksum=1),
    "EXIF with a wrong checksum": chunk(b"eXIf", b"II*\0", checksum=1),
}


@pytest.mark.parametrize("chunks", ANCILLARY.values(), ids=ANCILLARY.keys())
@pytest.mark.parametrize("where", ["before", "after"])
def test_chunks_that_do_not_count_for_the_pixels_neither_decide_nor_cost(chunks, where):
    plain = photo("PNG")
    wanted, data = pixels_of(plain), with_chunks(plain, **{where: chunks})
    tracemalloc.start()
    got = pixels_of(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(got, wanted)
    assert peak < 3_000_000, "nothing was unpacked"


def test_pixels_that_follow_something_else_are_none_of_the_image():
    plain = photo("PNG")
    data = with_chunks(plain, after=chunk(b"tEXt", b"") + chunk(b"IDAT", b"no zlib"))
    assert np.array_equal(pixels_of(data), pixels_of(plain))


def test_a_file_that_ends_inside_of_a_text_behind_its_pixels_is_whole():
    plain = photo("PNG")
    data = plain[:-12] + chunk(b"tEXt", b"Comment\0" + b"text " * 100)[:-200]
    assert np.array_equal(pixels_of(data), pixels_of(plain))


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_what_counts_is_damage(name):
    before = chunk(b"PLTE", bytes(12)) + chunk(b"tRNS", bytes(4))
    data = bytearray(png(np.zeros((4, 4, 1), int), 8, PALETTE, before=before))
    start = data.index(name)
    length = int.from_bytes(data[start - 4 : start])
    data[start + 4 + length] ^= 1
    with pytest.raises(UndecodableImage):
        pixels_of(bytes(data))


@pytest.mark.parametrize(
    ("depth", "colour"),
    [(3, GREY), (0, GREY), (32, GREY), (4, RGB), (16, PALETTE), (4, RGBA), (8, 1), (8, 5), (8, 7)],
)
def test_depths_and_colours_that_do_not_go_together_are_damage(depth, colour):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, depth, colour, 0, 0, 0))
    body = chunk(b"PLTE", bytes(12)) + chunk(b"IDAT", zlib.compress(bytes(500)))
    with pytest.raises(UndecodableImage):
        pixels_of(SIGNATURE + header + body + chunk(b"IEND", b""))


@pytest.mark.parametrize("odd", [{"width": 0}, {"height": 0}, {"filter": 1}, {"interlace": 2}], ids=str)
def test_headers_that_cannot_be_are_damage(odd):
    fields = {
        "width": 4,
        "height": 4,
        "depth": 8,
        "colour": 0,
        "compression": 0,
        "filter": 0,
        "interlace": 0,
    } | odd
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *fields.values()))
    with pytest.raises(UndecodableImage):
        pixels_of(SIGNATURE + header + chunk(b"IDAT", zlib.compress(bytes(500))) + chunk(b"IEND", b""))


def test_a_png_of_apples_own_kind_is_unsupported():
    data = photo("PNG")
    with pytest.raises(UnsupportedImage, match="CgBI"):
        pixels_of(data[:8] + chunk(b"CgBI", bytes(4)) + data[8:])


def test_pixels_in_single_bytes_are_a_image():
    data = photo("PNG")
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start])
    stream = data[start + 4 : start + 4 + length]
    single = b"".join(chunk(b"IDAT", bytes((byte,))) for byte in stream)
    assert np.array_equal(pixels_of(data[:33] + single + chunk(b"IEND", b"")), pixels_of(data))


@pytest.mark.parametrize("name", [b"IDAT", b"tEXt", b"zTXt", b"prVt"])
def test_millions_of_empty_chunks_are_not_gone_through(name):
    data = photo("PNG")
    with pytest.raises(UndecodableImage):
        pixels_of(data[:33] + chunk(name, b"") * 500_000 + data[33:])


def test_the_pixels_are_counted_before_anything_is_unpacked():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    with pytest.raises(TooManyPixels):
        pixels_of(SIGNATURE + header + ANCILLARY["much compressed text"] + chunk(b"IDAT", BOMB))


def test_what_pillow_writes_is_what_is_read():
    for mode in ("1", "L", "LA", "RGB", "RGBA", "P"):
        image = Image.effect_noise((31, 23), 90).convert("RGB").convert(mode)
        wanted = image.convert("L" if mode in ("1", "L") else "RGB")
        assert np.array_equal(pixels_of(encoded(image, "PNG")), np.atleast_3d(np.asarray(wanted))), mode
