"""Regions of JPEGs, by our own use of libjpeg-turbo: never another pixel than the whole image has there."""

from __future__ import annotations

import io
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.images.geometry import Region
from models.images.jpeg import decode_jpeg, jpeg_region
from models.images.jpeg_file import read_jpeg
from tests.conftest import lacking

IMAGES = Path(__file__).parents[3] / "images"
KINDS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "4:2:0, restarts": {"subsampling": 2, "restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "RGB": {"keep_rgb": True},
    "grey": {},
}


@pytest.fixture(autouse=True, scope="module")
def built():
    if jpeg_region is None:
        lacking("models/images/jpeg_region.c is not built; it needs a C compiler and libjpeg-turbo's headers")


@lru_cache
def photo(kind, width=333, height=451):
    image = Image.open(IMAGES / "cat.jpg").convert("L" if kind == "grey" else "RGB").resize((width, height))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, **KINDS[kind])
    return file.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data), formats=("JPEG",))


def whole(data, scale):
    """All pixels, by Pillow's decoder."""
    image = opened(data)
    width, height = image.size
    if scale > 1:
        image.draft(None, (width // scale, height // scale))
    pixels = np.atleast_3d(np.asarray(image))
    assert pixels.shape[:2] == (-(-height // scale), -(-width // scale))
    return pixels


def region_of(data, scale, left, top, columns, rows):
    """[rows, columns, bands], or None."""
    region = Region(scale, slice(left, left + columns), slice(top, top + rows))
    pixels = decode_jpeg(read_jpeg(data), data, region)
    return None if pixels is None else pixels[region.down, region.across]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_every_pixel_is_that_of_the_whole_image(data):
    file = photo(data.draw(st.sampled_from(sorted(KINDS))))
    scale = data.draw(st.sampled_from([1, 2, 4, 8]))
    wanted = whole(file, scale)
    height, width, bands = wanted.shape
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    columns, rows = data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top))
    pixels = region_of(file, scale, left, top, columns, rows)
    assert pixels.shape == (rows, columns, bands)
    assert np.array_equal(pixels, wanted[top : top + rows, left : left + columns])


def test_an_odd_sampling_is_left_to_others():
    """Blocks of 24 columns begin elsewhere than at a multiple of 32."""
    data = bytearray(photo("4:4:4"))
    frame = data.index(b"\xff\xc0")
    data[frame + 11] = 0x31  # the first component's sampling: 3 across
    assert region_of(bytes(data), 1, 130, 0, 50, 50) is None


@pytest.mark.parametrize("kind", ["4:2:0", "progressive"])
def test_a_file_that_was_cut_short_is_refused_wherever_the_region_lies(kind):
    data = photo(kind)
    assert region_of(data, 1, 0, 0, 8, 8) is not None
    for length in range(1, len(data) - 1, 97):
        with pytest.raises(ValueError):
            jpeg_region.decode(data[:length], (333, 451), 1, (0, 0), np.empty((8, 8, 3), np.uint8))


def test_bytes_behind_the_end_do_not_matter():
    data = photo("4:2:0") + b"a film of some seconds" * 1000
    assert np.array_equal(region_of(data, 1, 0, 0, 333, 451), whole(data, 1))


def test_nothing_is_written_around_the_region():
    data, frame = photo("4:2:0"), np.full((60, 120, 3), 77, np.uint8)
    jpeg_region.decode(data, (333, 451), 1, (32, 200), frame[10:50, 20:100])
    # The outermost columns want neighbours.
    assert np.array_equal(frame[10:50, 22:98], whole(data, 1)[200:240, 34:110])
    frame[10:50, 20:100] = 77
    assert (frame == 77).all()


@given(st.integers(0, 1 << 30), st.integers(1, 20), st.sampled_from(sorted(KINDS)))
@settings(max_examples=300, deadline=None)
def test_damage_is_refused_or_gives_pixels(seed, hits, kind):
    random = np.random.default_rng(seed)
    data = bytearray(photo(kind))
    for _ in range(hits):
        data[random.integers(2, len(data))] = random.integers(256)
    pixels = np.empty((100, 64, 1 if kind == "grey" else 3), np.uint8)
    try:
        jpeg_region.decode(bytes(data), (333, 451), 1, (32, 200), pixels)
    except ValueError as refusal:
        assert str(refusal)


def wrong(**changes):
    arguments = {
        "data": photo("4:2:0"),
        "size": (333, 451),
        "scale": 1,
        "corner": (32, 10),
        "pixels": np.empty((16, 301, 3), np.uint8),
    } | changes
    jpeg_region.decode(*arguments.values())


def described(changes):
    """What a test is named after; never by pixels, which nobody has written."""
    ((name, value),) = changes.items()
    return f"{name}-{value.dtype}-{value.shape}" if name == "pixels" else f"{name}-{str(value)[:20]}"


def test_the_arguments_of_these_tests_are_right_unless_changed():
    wrong()


@pytest.mark.parametrize(
    "changes",
    [
        {"data": b""},
        {"data": b"GIF89a"},
        {"data": photo("grey")},
        {"size": (334, 451)},
        {"size": (333, 450)},
        {"scale": 3},
        {"scale": 0},
        {"scale": -1},
        {"scale": 2},  # 167 columns are fewer than the region's end
        {"corner": (33, 10)},  # not where a block begins
        {"corner": (64, 10)},
        {"corner": (32, 436)},
        {"corner": (4_000_000_000, 10)},
        {"corner": (32, 4_000_000_000)},
        {"pixels": np.empty((16, 0, 3), np.uint8)},
        {"pixels": np.empty((0, 301, 3), np.uint8)},
        {"pixels": np.empty((16, 301, 2), np.uint8)},
        {"pixels": np.empty((16, 301, 4), np.uint8)},
        {"pixels": np.empty((16, 301, 1), np.uint8)},
        {"pixels": np.empty((16, 301, 3), np.uint16)},
        {"pixels": np.empty((16, 903), np.uint8)},
        {"pixels": np.empty((16, 70_000, 3), np.uint8)},
        {"pixels": np.empty((70_000, 301, 3), np.uint8)},
    ],
    ids=described,
)
def test_what_does_not_fit_is_refused(changes):
    with pytest.raises(ValueError):
        wrong(**changes)


@pytest.mark.parametrize(
    "pixels",
    [
        np.frombuffer(bytes(16 * 301 * 3), np.uint8).reshape(16, 301, 3),
        np.empty((16, 602, 3), np.uint8)[:, ::2],
        np.empty((16, 301, 3), np.uint8)[::-1],
        np.empty((16, 301, 3), np.uint8)[..., ::-1],
        np.lib.stride_tricks.as_strided(np.empty((16, 301, 3), np.uint8), strides=(900, 3, 1)),
    ],
    ids=["read-only", "with gaps", "upside down", "BGR", "rows that overlap"],
)
def test_pixels_that_cannot_be_written_to_are_refused(pixels):
    with pytest.raises((ValueError, BufferError)):
        wrong(pixels=pixels)


def test_threads_do_not_disturb_each_other():
    data = photo("4:2:0")
    wanted, results = whole(data, 1), []

    def work(top):
        for _ in range(20):
            pixels = region_of(data, 1, 40, top, 200, 100)
            results.append(np.array_equal(pixels, wanted[top : top + 100, 40:240]))

    threads = [threading.Thread(target=work, args=(top,)) for top in (0, 111, 222, 333)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80
