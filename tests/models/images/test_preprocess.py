"""The preprocessing contract (DESIGN §5), against torchvision on the same PIL image."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torchvision.transforms.functional as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import models.images.decode
import models.images.jpeg
from models.bundles.spec import IMAGENET, RESIZE_MODES, SQUASH, PreprocessSpec
from models.errors import ImageError, TooManyPixels, UndecodableImage, UnsupportedFormat
from models.images.colour import to_rgb
from models.images.formats import sniff
from models.images.geometry import Region, crop_spans
from models.images.jpeg_file import read_jpeg
from models.images.preprocess import MARGIN, Preprocessor
from models.images.resize import reads, resize_crop
from tests.conftest import lacking

IMAGES = Path(__file__).parents[3] / "images"
PHOTOS = sorted(
    file
    for file in IMAGES.iterdir()
    if file.suffix in (".jpg", ".png", ".webp") and not file.name.startswith("digit")
)
# (resize, crop, interpolation) of torchvision's own presets
GEOMETRIES = [(256, 224, "bilinear"), (232, 224, "bilinear"), (342, 299, "bicubic"), (64, 64, "bilinear")]
# Those of ViT in Hugging Face and of timm's "squash".
SQUASHED = [(224, 224, "bilinear", SQUASH), (256, 224, "bilinear", SQUASH), (384, 384, "bicubic", SQUASH)]


def spec(resize=256, crop=224, interpolation="bilinear", mode="shortest"):
    return PreprocessSpec(resize, crop, interpolation, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), mode)


def torchvision_crop(image, spec):
    """What `weights.transforms()` does before it makes floats."""
    mode = reference.InterpolationMode(spec.interpolation)
    size = [spec.resize_size] * (2 if spec.resize_mode == SQUASH else 1)
    resized = reference.resize(image.convert("RGB"), size, mode, antialias=True)
    return np.asarray(reference.center_crop(resized, [spec.crop_size] * 2))


def distance(one, other):
    """The largest difference of any pixel, in levels."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def assert_close(got, wanted, geometry):
    """Within one level on every pixel; bicubic may be off by two at a few in a hundred thousand."""
    difference = np.abs(got.astype(int) - wanted.astype(int))
    assert difference.max() <= (2 if geometry[2] == "bicubic" else 1)
    assert (difference > 1).mean() < 1e-4


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data):
    return Image.open(io.BytesIO(data))


@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    geometry=st.sampled_from(GEOMETRIES + SQUASHED),
    transposed=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_pixels_that_are_not_read_may_be_anything(width, height, geometry, transposed):
    across, down = crop_spans(width, height, spec(*geometry))
    columns, rows = reads(across, down, geometry[2], transposed)
    pixels = np.random.default_rng(width).integers(0, 256, (rows.stop, columns.stop, 3), np.uint8)
    kept = []
    for level in (0, 255):
        pixels[: rows.start] = pixels[:, : columns.start] = level
        kept.append(resize_crop(pixels, across, down, geometry[2], transposed))
    assert np.array_equal(*kept)


def test_there_are_photos_of_every_kind():
    images = [decoded(file.read_bytes()) for file in PHOTOS]
    assert {image.format for image in images} == {"JPEG", "PNG", "WEBP"}
    assert any(image.width > image.height for image in images)
    assert any(image.width < image.height for image in images)


@pytest.mark.parametrize("geometry", GEOMETRIES + SQUASHED, ids=str)
@pytest.mark.parametrize("turned", [False, True], ids=["as-it-is", "turned"])
@pytest.mark.parametrize(
    ("photo", "format"),
    [
        pytest.param(photo, format, id=f"{photo.name}-{format}")
        for photo in PHOTOS
        for format in ("JPEG", "PNG", "WEBP")
        if (photo.name, format) != ("photographer.jpg", "WEBP")  # which the next test has
    ],
)
def test_within_one_level_of_torchvision_on_every_pixel(photo, format, turned, geometry):
    image = Image.open(photo).convert("RGB")
    data = encoded(image.transpose(Image.Transpose.ROTATE_90) if turned else image, format)
    got = Preprocessor(spec(*geometry), scaled_decode=False)(data)
    assert_close(got, torchvision_crop(decoded(data), spec(*geometry)), geometry)


def test_at_the_hardest_edges_one_pixel_in_50_000_may_be_off_by_two_levels():
    """Two passes, each of which rounds: the only such file of the samples in any format."""
    data = encoded(Image.open(IMAGES / "photographer.jpg").convert("RGB"), "WEBP")
    got = Preprocessor(IMAGENET, scaled_decode=False)(data)
    difference = np.abs(got.astype(int) - torchvision_crop(decoded(data), IMAGENET).astype(int))
    assert difference.max() <= 2
    assert (difference.max(axis=2) > 1).sum() <= 1


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda file: file.name)
def test_the_files_themselves(photo):
    data = photo.read_bytes()
    assert distance(Preprocessor(IMAGENET)(data), torchvision_crop(decoded(data), IMAGENET)) <= 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from(GEOMETRIES))
def test_any_shape(width, height, geometry):
    image = Image.open(PHOTOS[0]).convert("RGB").resize((width, height))
    got = Preprocessor(spec(*geometry)).crop(image)
    assert got.shape == (geometry[1], geometry[1], 3)
    assert got.dtype == np.uint8
    if max(width, height) < 30 * min(width, height):
        assert_close(got, torchvision_crop(image, spec(*geometry)), geometry)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from(SQUASHED))
def test_any_shape_is_squashed(width, height, geometry):
    image = Image.open(PHOTOS[0]).convert("RGB").resize((width, height))
    got = Preprocessor(spec(*geometry)).crop(image)
    assert got.shape == (geometry[1], geometry[1], 3)
    assert_close(got, torchvision_crop(image, spec(*geometry)), geometry)


@pytest.mark.parametrize("geometry", [*SQUASHED, (64, 64, "bilinear", SQUASH)], ids=str)
@pytest.mark.parametrize("size", [(60, 2400), (2400, 60), (300, 1210), (3, 5000), (5000, 3)], ids=str)
def test_strips_are_squashed_as_by_torchvision_whose_long_side_is_first(size, geometry):
    noise = np.random.default_rng(1).integers(0, 2, (size[1], size[0], 3), np.uint8) * 255
    image = Image.fromarray(noise)
    got = Preprocessor(spec(*geometry)).crop(image)
    assert_close(got, torchvision_crop(image, spec(*geometry)), geometry)


@pytest.mark.parametrize("mode", ["shortest", SQUASH])
def test_extreme_shapes_cost_only_the_crop(mode):
    for size in ((1, 20_000_000), (20_000_000, 1)):
        for interpolation in ("bilinear", "bicubic", "nearest"):
            geometry = spec(256, 224, interpolation, mode)
            assert Preprocessor(geometry).crop(Image.new("RGB", size)).shape == (224, 224, 3)


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300), st.integers(1, 300))
def test_the_spans_lie_inside_the_image_and_hold_the_crop(width, height, resize, crop):
    spans = [
        pair
        for mode in RESIZE_MODES
        for pair in zip(
            (width, height), crop_spans(width, height, spec(max(resize, crop), crop, mode=mode)), strict=True
        )
    ]
    for length, span in spans:
        assert span.kept == crop
        for each in (span, span.mirrored(), span.widened(), span.mirrored().widened()):
            start, stop = each.ends()
            assert 0 <= start < stop <= length
        wide = span.widened()
        assert wide.first <= span.first
        assert wide.first + wide.kept >= span.first + crop
        assert span.begin(2) == 0 or span.begin(2) <= span.first - 2
        assert (span.begin(2) * span.ratio).denominator == 1


TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("model", [IMAGENET, spec(240, 224, "bilinear", SQUASH)], ids=["shortest", "squash"])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", TURNS)
def test_each_exif_orientation_gives_the_upright_image(orientation, format, model):
    upright = Image.open(IMAGES / "cat.jpg").convert("RGB").crop((0, 0, 330, 240))
    stored = upright if TURNS[orientation] is None else upright.transpose(TURNS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95}}[format]
    data = encoded(stored, format, exif=exif, **options)
    got = Preprocessor(model)(data)
    assert distance(got, torchvision_crop(ImageOps.exif_transpose(decoded(data)), model)) <= 1
    if format != "JPEG":  # lossless: the upright image itself
        assert np.array_equal(got, Preprocessor(model)(encoded(upright, "PNG")))


def test_a_nonsense_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 99
    image = Image.open(PHOTOS[0]).convert("RGB")
    plain, marked = (Preprocessor(IMAGENET)(encoded(image, "PNG", **kind)) for kind in ({}, {"exif": exif}))
    assert np.array_equal(plain, marked)


COLOUR = (200, 100, 40)
HALF_ON_WHITE = (227, 177, 147)  # COLOUR at alpha 128 of 255, on white, rounded


def of_mode(mode, value, size=(10, 10)):
    return Image.new(mode, size, value)


def palette(transparent):
    image = of_mode("RGB", COLOUR).quantize(4)
    if transparent:
        image.info["transparency"] = image.getpixel((0, 0))
    return image


@pytest.mark.parametrize(
    ("image", "format", "wanted"),
    [
        (of_mode("RGB", COLOUR), "PNG", COLOUR),
        (of_mode("L", 90), "PNG", (90, 90, 90)),
        (of_mode("L", 90), "JPEG", (90, 90, 90)),
        (of_mode("1", 1), "PNG", (255, 255, 255)),
        (of_mode("1", 0), "PNG", (0, 0, 0)),
        (of_mode("LA", (90, 255)), "PNG", (90, 90, 90)),
        (of_mode("LA", (0, 0)), "PNG", (255, 255, 255)),
        (of_mode("RGBA", (*COLOUR, 255)), "PNG", COLOUR),
        (of_mode("RGBA", (*COLOUR, 128)), "PNG", HALF_ON_WHITE),
        (of_mode("RGBA", (*COLOUR, 0)), "PNG", (255, 255, 255)),
        (of_mode("RGBA", (*COLOUR, 0)), "WEBP", (255, 255, 255)),
        (palette(False), "PNG", COLOUR),
        (palette(True), "PNG", (255, 255, 255)),
        (Image.fromarray(np.full((10, 10), 90 * 256 + 200, np.uint16)), "PNG", (90, 90, 90)),
        (of_mode("CMYK", (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
        (of_mode("CMYK", (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_becomes_rgb_by_the_documented_rule(image, format, wanted):
    got = Preprocessor(spec(8, 8))(encoded(image, format))
    assert distance(got, np.full((8, 8, 3), wanted)) <= (2 if format == "JPEG" else 0)


def test_colour_key_transparency_is_white_too():
    data = encoded(of_mode("RGB", COLOUR), "PNG", transparency=COLOUR)
    assert Preprocessor(spec(8, 8))(data).min() == 255


def test_sixteen_bit_colour_keeps_its_high_byte():
    assert np.array_equal(Preprocessor(spec(8, 8))(png48(0x12FF)), np.full((8, 8, 3), 0x12))


def chunk(name, data):
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png48(value):
    """A PNG of 16 bits per channel, which Pillow cannot write."""
    rows = (b"\0" + struct.pack(">H", value) * 24) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animation(format):
    frames = [of_mode("RGB", COLOUR), of_mode("RGB", (0, 0, 0))]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert b"fcTL" in data or b"ANIM" in data
    assert np.array_equal(Preprocessor(spec(8, 8))(data), np.full((8, 8, 3), COLOUR))


@pytest.mark.parametrize("headers", [1, 2])
def test_an_animation_costs_nothing_before_its_pixels_are_counted(headers):
    """The frame's box comes from the file: a canvas for it would be gigabytes."""
    side = 23_000
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) * headers
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 10, 1, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"acTL", struct.pack(">II", 2, 0)) + frame + chunk(b"IDAT", b"")
    tracemalloc.start()
    with pytest.raises(TooManyPixels):
        Preprocessor(spec(8, 8))(data + chunk(b"IEND", b""))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(monkeypatch):
    data = encoded(of_mode("L", 90, (64, 64)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 200 + data[-2:]
    assert Preprocessor(spec(8, 8))(data).shape == (8, 8, 3)
    never_decoded(monkeypatch)
    with pytest.raises(UndecodableImage):
        Preprocessor(spec(8, 8))(bomb)


def never_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    monkeypatch.setattr(models.images.decode, "decode_jpeg", lambda *arguments: pytest.fail("decoded"))


def test_scans_of_single_components_are_counted_too(monkeypatch):
    """A JPEG that is not progressive has more than one scan only if the first lacks a component."""
    data = encoded(of_mode("RGB", COLOUR, (64, 64)), "JPEG")
    scan = data.index(b"\xff\xda")
    assert data[scan + 4] == 3
    bomb = data[:scan] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\x55" * 200 + data[scan:]
    repeated = data[:-2] + data[scan:-2] * 200 + data[-2:]
    with contextlib.suppress(UndecodableImage):  # libjpeg stops at the second, if it comes to it
        assert np.array_equal(Preprocessor(spec(8, 8))(repeated), Preprocessor(spec(8, 8))(data))
    never_decoded(monkeypatch)
    with pytest.raises(UndecodableImage):
        Preprocessor(spec(8, 8))(bomb)


def test_transparency_is_blended_in_strips():
    data = encoded(of_mode("RGBA", (*COLOUR, 128), (1000, 3000)), "PNG")
    tracemalloc.start()
    got = Preprocessor(spec(8, 8))(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(got, np.full((8, 8, 3), HALF_ON_WHITE))
    assert peak < 10 * 1000 * 3000, "bytes for each pixel"


def test_a_phones_jpeg_with_two_images_in_it():
    frames = [of_mode("RGB", COLOUR), of_mode("RGB", (0, 0, 0))]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert distance(Preprocessor(spec(8, 8))(data), np.full((8, 8, 3), COLOUR)) <= 2


def test_progressive_and_subsampled_jpegs():
    image = Image.open(IMAGES / "cat.jpg").convert("RGB")
    for options in ({"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "quality": 30}):
        data = encoded(image, "JPEG", **options)
        assert distance(Preprocessor(IMAGENET)(data), torchvision_crop(decoded(data), IMAGENET)) <= 1


def big_jpeg(width, height, **options):
    """A photo that is large enough to be decoded at a part of its size."""
    image = Image.open(IMAGES / "cat.jpg").convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return encoded(image, "JPEG", quality=92, **options)


def scaled_and_whole(data, spec):
    return (Preprocessor(spec, scaled_decode=scaled)(data) for scaled in (True, False))


def assert_like(got, wanted):
    """As near as scaled decoding comes. A shift by half a pixel gives 2.4 on average."""
    difference = np.abs(got.astype(int) - wanted.astype(int))
    assert difference.mean() < 0.7
    assert np.percentile(difference, 99) <= 5


@pytest.fixture(params=models.images.jpeg.DECODERS)
def decoder(request, monkeypatch):
    """Each decoder of JPEG, one after the other."""
    for name in models.images.jpeg.DECODERS[: models.images.jpeg.DECODERS.index(request.param)]:
        monkeypatch.setattr(models.images.jpeg, name, None)
    if models.images.jpeg.decoder() != request.param:
        lacking(f"{request.param} is not there; docs/pictures.md says how it gets there")
    return request.param


# Not divisible by 8, so the last of the scaled pixels stands for fewer: 1031 = 128 * 8 + 7.
@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("size", [(1031, 1031), (1025, 1543), (1543, 1025), (1024, 1024), (300, 1500)], ids=str)
@pytest.mark.usefixtures("decoder")
def test_a_big_jpeg_is_scaled_while_it_is_decoded_and_looks_the_same(size, mode):
    data, small = big_jpeg(*size), spec(64, 64, mode=mode)
    got, whole = scaled_and_whole(data, small)
    assert_like(got, whole)
    assert distance(got, whole) > 0, "it was scaled"
    assert distance(whole, torchvision_crop(decoded(data), small)) <= 1


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.usefixtures("decoder")
def test_a_scaled_jpeg_stands_upright(orientation, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data, small = big_jpeg(1031, 771, exif=exif), spec(64, 64, mode=mode)
    got = Preprocessor(small)(data)
    assert_like(got, torchvision_crop(ImageOps.exif_transpose(decoded(data)), small))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.usefixtures("decoder")
def test_grey_and_cmyk_are_scaled_too(mode):
    image = Image.open(IMAGES / "cat.jpg").convert("RGB").convert(mode).resize((1031, 771))
    got, whole = scaled_and_whole(encoded(image, "JPEG", quality=92), spec(64, 64))
    assert_like(got, whole)
    assert distance(got, whole) > 0


@pytest.mark.usefixtures("decoder")
def test_a_jpeg_that_is_not_much_larger_than_needed_is_not_scaled():
    least = 2 * MARGIN * 64
    got, whole = scaled_and_whole(big_jpeg(least - 1, least), spec(64, 64))
    assert np.array_equal(got, whole)
    got, whole = scaled_and_whole(big_jpeg(least, least), spec(64, 64))
    assert not np.array_equal(got, whole)


@pytest.mark.usefixtures("decoder")
def test_a_squashed_jpegs_short_side_tells_how_much_it_is_scaled():
    least = 2 * MARGIN * 64
    for size in ((least - 1, 9 * least), (9 * least, least - 1)):
        got, whole = scaled_and_whole(big_jpeg(*size), spec(64, 64, mode=SQUASH))
        assert np.array_equal(got, whole)


def test_nearest_picks_single_pixels_and_so_is_not_scaled():
    got, whole = scaled_and_whole(big_jpeg(1031, 771), spec(64, 64, "nearest"))
    assert np.array_equal(got, whole)


@pytest.mark.usefixtures("decoder")
def test_opened_a_big_jpeg_is_whole_and_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = big_jpeg(1031, 771, exif=exif)
    opened = Preprocessor(spec(64, 64)).open(data)
    assert np.array_equal(np.asarray(opened), np.asarray(ImageOps.exif_transpose(decoded(data))))


def test_the_pixels_of_a_big_jpeg_are_counted_before_it_is_scaled(monkeypatch):
    data = big_jpeg(1031, 771)
    never_decoded(monkeypatch)
    with pytest.raises(TooManyPixels) as refusal:
        Preprocessor(spec(64, 64), max_pixels=1031 * 771 - 1)(data)
    assert refusal.value.actual == 1031 * 771


@pytest.mark.usefixtures("decoder")
def test_every_decoder_sees_the_same_pixels():
    for photo in PHOTOS:
        if photo.suffix == ".jpg":
            data = photo.read_bytes()
            assert np.array_equal(np.asarray(Preprocessor(IMAGENET).open(data)), np.asarray(decoded(data)))


@pytest.mark.usefixtures("decoder")
def test_what_the_fast_decoders_refuse_is_judged_by_pillow():
    data = (IMAGES / "cat.jpg").read_bytes()
    odd = data[:20] + b"\0\0" + data[20:]  # bytes between segments: a warning
    region = Region.whole(*decoded(data).size)
    assert models.images.jpeg.decode_jpeg(read_jpeg(odd), odd, region) is None
    assert np.array_equal(Preprocessor(IMAGENET)(odd), Preprocessor(IMAGENET)(data))


@pytest.mark.parametrize("ratio", ["5/4", "9/8", "17/16", "7/4", "2/3"])
def test_ratios_at_which_many_values_lie_between_two_levels(ratio):
    side = int(96 * Fraction(ratio))
    for seed in range(20):
        noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
        image = Image.fromarray(noise)
        assert distance(Preprocessor(spec(96, 96)).crop(image), torchvision_crop(image, spec(96, 96))) <= 1


def test_a_view_of_bytes_is_as_good_as_bytes():
    data = (IMAGES / "cat.jpg").read_bytes()
    assert np.array_equal(Preprocessor(IMAGENET)(memoryview(data)), Preprocessor(IMAGENET)(data))


def test_the_pixels_are_counted_before_they_are_decoded(monkeypatch):
    data = encoded(of_mode("RGB", COLOUR, (100, 30)), "PNG")
    assert Preprocessor(spec(8, 8), max_pixels=3000)(data).shape == (8, 8, 3)
    never_decoded(monkeypatch)
    with pytest.raises(TooManyPixels) as refusal:
        Preprocessor(spec(8, 8), max_pixels=2999)(data)
    assert (refusal.value.limit, refusal.value.actual) == (2999, 3000)


@pytest.mark.parametrize(
    ("head", "seen"),
    [
        (b"GIF89a", "GIF"),
        (b"II*\0", "TIFF"),
        (b"BM", "BMP"),
        (b"%PDF-1.4", "PDF"),
        (b"\0\0\0\x20ftypheic", "HEIC"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x20ftypmp42", "MP4 or HEIF"),
        (b"<svg xmlns", "SVG"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"hello", None),
        (b"", None),
    ],
)
def test_other_formats_are_named(head, seen):
    assert sniff(head) == (seen, False)
    with pytest.raises(UnsupportedFormat) as refusal:
        Preprocessor(IMAGENET)(head + bytes(40))
    assert refusal.value.seen == seen


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_image_cut_short_anywhere_is_undecodable_or_whole(format):
    data = encoded(Image.open(IMAGES / "cat.jpg").convert("RGB").resize((60, 40)), format)
    whole = Preprocessor(spec(8, 8))(data)
    for length in range(12, len(data), 97):
        try:
            got = Preprocessor(spec(8, 8))(data[:length])
        except UndecodableImage as error:
            assert str(error) == format, "nothing of Pillow's text"
        else:
            assert length > 0.9 * len(data)
            assert np.array_equal(got, whole)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(["JPEG", "PNG", "WEBP"]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=5),
)
def test_damage_anywhere_gives_a_image_or_a_image_error(format, damage):
    data = bytearray(DAMAGED[format])
    for where, garbage in damage:
        position = int(where * (len(data) - 1))
        data[position : position + len(garbage)] = garbage
    with contextlib.suppress(ImageError):
        assert Preprocessor(spec(8, 8), max_pixels=100_000)(bytes(data)).shape == (8, 8, 3)


DAMAGED = {
    format: encoded(Image.effect_noise((40, 30), 60).convert("RGB"), format) for format in ("JPEG", "PNG", "WEBP")
}


def test_of_sixteen_bits_of_grey_the_high_byte_is_kept():
    image = to_rgb(Image.fromarray(np.array([[0x12FF, 0xFF00]], np.uint16)))
    assert (image.mode, np.asarray(image).tolist()) == ("L", [[0x12, 0xFF]])


def test_rgb_and_grey_are_not_copied():
    for mode in ("RGB", "L"):
        image = Image.new(mode, (4, 4))
        assert to_rgb(image) is image
