"""HEIC and AVIF: off unless asked for, and then within the same limits."""

from __future__ import annotations

import contextlib
import io
import struct
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

import models.images.formats
from models.bundles.spec import PreprocessSpec
from models.errors import ImageError, TooManyPixels, UndecodableImage, UnsupportedFormat, UnsupportedImage
from models.images.formats import OPTIONAL, SUPPORTED, check_formats, installation, sniff
from models.images.heif import without_metadata
from models.images.preprocess import Preprocessor
from tests.conftest import lacking
from tests.models.image_files import encoded, exif, orientation, photo

SPEC = PreprocessSpec(8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SIZE = (40, 30)
PLUGINS = {"HEIC": "HEIF", "AVIF": "AVIF"}
TRANSPOSES = dict(enumerate(("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE"), 2))
TRANSPOSES |= dict(enumerate(("ROTATE_270", "TRANSVERSE", "ROTATE_90"), 6))


@pytest.fixture(params=OPTIONAL)
def format(request):
    """A format that this installation can decode and, for the test, encode."""
    if request.param == "HEIC":
        if find_spec("pillow_heif") is None:
            lacking("pillow-heif is not installed; the extra [heif] brings it")
        import pillow_heif

        pillow_heif.register_heif_opener()
    elif not features.check("avif"):
        lacking("this Pillow has no AVIF")
    return request.param


def image(format, image=None, **options):
    image = image or Image.open(io.BytesIO(photo("PNG", SIZE)))
    return encoded(image, PLUGINS[format], quality=95, **options)


def pixels_of(data, max_pixels=10_000):
    return np.asarray(Preprocessor(SPEC, max_pixels, formats=SUPPORTED + OPTIONAL_HERE).open(data))


OPTIONAL_HERE = tuple(name for name in OPTIONAL if installation(name) is None)


def distance(one, other):
    return np.abs(one.astype(int) - other.astype(int)).mean()


@pytest.mark.slow  # torch resizes
def test_they_are_off_unless_they_are_asked_for(format):
    with pytest.raises(UnsupportedFormat) as refusal:
        Preprocessor(SPEC)(image(format))
    assert (refusal.value.seen, refusal.value.accepted) == (format, SUPPORTED)
    assert Preprocessor(SPEC, formats=(format,))(image(format)).shape == (8, 8, 3)
    with pytest.raises(UnsupportedFormat) as refusal:
        Preprocessor(SPEC, formats=(format,))(photo("PNG"))
    assert (refusal.value.seen, refusal.value.accepted) == ("PNG", (format,))


def test_the_pixels_are_those_of_the_image(format):
    wanted = np.asarray(Image.open(io.BytesIO(photo("PNG", SIZE))))
    assert distance(pixels_of(image(format)), wanted) < 4


@pytest.mark.parametrize("value", TRANSPOSES)
def test_the_image_is_set_upright(format, value):
    wanted = np.asarray(Image.open(io.BytesIO(photo("PNG", SIZE))).transpose(Image.Transpose[TRANSPOSES[value]]))
    got = pixels_of(image(format, exif=b"Exif\0\0" + orientation(value)))
    assert got.shape == wanted.shape
    assert distance(got, wanted) < 4


def test_transparency_is_laid_on_white(format):
    pixels = np.zeros((30, 40, 4), np.uint8)
    pixels[:, :20, 3] = 255
    got = pixels_of(image(format, Image.fromarray(pixels)))
    assert got[:, :14].max() < 12
    assert got[:, 26:].min() > 243


def test_grey_is_grey(format):
    got = pixels_of(image(format, Image.new("L", SIZE, 90)))
    assert np.abs(got.astype(int) - 90).max() <= 2


def test_of_several_images_the_first_is_taken(format):
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue", "green")]
    data = image(format, frames[0], save_all=True, append_images=frames[1:])
    assert distance(pixels_of(data), np.full((30, 40, 3), (255, 0, 0))) < 4


def test_the_pixels_are_counted_before_they_are_decoded(format, monkeypatch):
    data = image(format)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(TooManyPixels) as refusal:
        pixels_of(data, 40 * 30 - 1)
    assert refusal.value.actual == 40 * 30


@pytest.mark.parametrize(
    "metadata",
    [
        {"xmp": b"\xff\xfe<"},
        {"icc_profile": b"no profile"},
    ],
    ids=lambda value: str(value)[:24],
)
def test_metadata_decides_nothing(format, metadata):
    assert np.array_equal(pixels_of(image(format, **metadata)), pixels_of(image(format)))


def broken_exif(format):
    """EXIF that no encoder would write: its own beginning is overwritten in the file."""
    data = image(format, exif=b"Exif\0\0" + exif(b"\x0f\x01\2\0\x08\0\0\0\x1a\0\0\0", behind=b"maker!\0\0"))
    where = data.index(b"II*\0")
    return data[:where] + b"no!!" + data[where + 4 :]


def test_exif_that_cannot_be_read_costs_nothing(format):
    data = broken_exif(format)
    assert without_metadata(data) != data
    assert np.array_equal(pixels_of(data), pixels_of(image(format)))


def test_another_codec_is_unsupported_and_not_damaged(format):
    codec = {"HEIC": b"hvc1", "AVIF": b"av01"}[format]
    with pytest.raises(UnsupportedImage) as refusal:
        pixels_of(image(format).replace(codec, b"vvc1"))
    assert refusal.value.kind.startswith(f"{format} with another codec")


def test_what_is_cut_short_is_damaged(format):
    data = image(format)
    for length in range(12, len(data), 61):
        with pytest.raises((UndecodableImage, UnsupportedFormat)):
            pixels_of(data[:length])


@given(st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=5))
@settings(max_examples=60, deadline=None)
def test_damage_gives_a_image_or_a_image_error(damage):
    for format in OPTIONAL_HERE:
        if format == "HEIC":
            __import__("pillow_heif").register_heif_opener()
        data = bytearray(image(format))
        for where, garbage in damage:
            position = int(where * (len(data) - 1))
            data[position : position + len(garbage)] = garbage
        with contextlib.suppress(ImageError):
            pixels_of(bytes(data))


def box(name, content):
    return struct.pack(">I", 8 + len(content)) + name + content


@pytest.mark.parametrize(
    ("major", "further", "name"),
    [
        (b"heic", (b"mif1",), "HEIC"),
        (b"heix", (), "HEIC"),
        (b"hevc", (b"msf1",), "HEIC"),
        (b"avif", (b"mif1",), "AVIF"),
        (b"avis", (), "AVIF"),
        (b"mif1", (b"miaf", b"heic"), "HEIC"),
        (b"mif1", (b"miaf", b"avif"), "AVIF"),
        (b"msf1", (b"hevc",), "HEIC"),
        (b"mif1", (), "HEIF"),
        (b"mif1", (b"jpeg",), "HEIF"),
        (b"isom", (b"avif",), "MP4 or HEIF"),
    ],
)
def test_the_brands_tell_the_format(major, further, name):
    head = box(b"ftyp", major + bytes(4) + b"".join(further)) + b"avifheic"
    assert sniff(head) == (name, False)
    assert sniff(head, OPTIONAL).supported == (name in OPTIONAL)


def test_what_is_missing_is_said_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(models.images.formats, "find_spec", lambda name: None)
    monkeypatch.setattr(models.images.formats.features, "check", lambda name: False)
    assert "snapserve[heif]" in installation("HEIC")
    assert "pillow" in installation("AVIF")
    assert [installation(name) for name in SUPPORTED] == [None] * 3
    for name in OPTIONAL:
        with pytest.raises(ValueError, match="pip install"):
            Preprocessor(SPEC, formats=(*SUPPORTED, name))


def test_what_is_there_needs_nothing(monkeypatch):
    monkeypatch.setattr(models.images.formats, "find_spec", lambda name: name)
    monkeypatch.setattr(models.images.formats.features, "check", lambda name: True)
    check_formats(SUPPORTED + OPTIONAL)


def test_an_unknown_format_is_refused_at_once():
    with pytest.raises(ValueError, match="GIF is not one of JPEG, PNG, WEBP, HEIC, AVIF"):
        Preprocessor(SPEC, formats=("JPEG", "GIF"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        box(b"ftyp", b"heic"),
        box(b"meta", b""),
        struct.pack(">I4sQ", 1, b"meta", 1 << 63),
        struct.pack(">I", 0) + b"meta",
        box(b"free", b"") * 5000 + box(b"meta", b"infe\2" + bytes(7) + b"Exif"),
        struct.pack(">I", 2) + b"free",
    ],
    ids=range(7),
)
def test_boxes_of_any_size_are_gone_through(data):
    assert len(without_metadata(data)) == len(data)
