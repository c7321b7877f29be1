"""A region that is decoded, or converted strip by strip, is exactly that part of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from models.images import colour, strips, webp_library
from models.images.colour import pixels_of, to_rgb
from models.images.geometry import Region
from models.images.webp import read_webp
from models.images.webp_library import decode_region
from tests.models.image_files import encoded

REGIONS = [(0, 0, 61, 47), (7, 5, 40, 31), (33, 46, 61, 47), (0, 11, 1, 12)]


def region_of(box):
    left, top, right, bottom = box
    return Region(1, slice(left, right), slice(top, bottom))


def noise(mode):
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = np.random.default_rng(0).integers(0, 256, (47, 61, bands), np.uint8)
    return (
        Image.fromarray(pixels[..., 0] if bands == 1 else pixels, mode)
        if mode != "CMYK"
        else Image.frombytes("CMYK", (61, 47), pixels.tobytes())
    )


@pytest.mark.parametrize("box", REGIONS)
@pytest.mark.parametrize("size", [64, 100, 1 << 20])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "1", "I;16"])
def test_strips_are_the_whole_in_parts(monkeypatch, mode, size, box):
    monkeypatch.setattr(strips, "_PIXELS", size)
    if mode == "1":
        image = noise("L").convert("1")
    elif mode == "I;16":
        image = Image.fromarray(np.arange(47 * 61, dtype=np.uint16).reshape(47, 61) * 20)
    else:
        image = noise(mode)
    left, top, right, bottom = box
    whole = np.atleast_3d(np.asarray(to_rgb(image)))
    pixels = pixels_of(image, region_of(box))
    assert pixels.shape == (bottom, right, whole.shape[2])
    assert (pixels[top:, left:] == whole[top:bottom, left:right]).all()


def test_of_an_opaque_strip_the_colours_are_kept(monkeypatch):
    monkeypatch.setattr(colour, "_STRIP", 61 * 4)
    rgba = np.asarray(noise("RGBA")).copy()
    rgba[:20, :, 3] = 255
    blended = colour.on_white(rgba)
    assert (blended[:20] == rgba[:20, :, :3]).all()
    wide = rgba.astype(np.uint32)
    expected = (wide[..., :3] * wide[..., 3:] + 255 * (255 - wide[..., 3:]) + 127) // 255
    assert (blended == expected).all()


@pytest.mark.skipif(webp_library.library() is None, reason="Pillow's libwebp cannot be called")
@pytest.mark.parametrize("box", REGIONS)
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_webp_by_libwebp_is_what_pillow_makes_of_it(mode, lossless, box):
    data = encoded(noise(mode), "WEBP", lossless=lossless, exact=True)
    file = read_webp(data)
    assert (file.has_alpha, file.is_lossless, file.is_animated) == (mode == "RGBA", lossless, False)
    left, top, right, bottom = box
    with Image.open(__import__("io").BytesIO(data)) as image:
        whole = np.asarray(to_rgb(image))
    pixels = decode_region(file.image, (61, 47), file.has_alpha, region_of(box))
    assert (pixels[top:bottom, left:right] == whole[top:bottom, left:right]).all()


@pytest.mark.skipif(webp_library.library() is None, reason="Pillow's libwebp cannot be called")
@pytest.mark.parametrize("length", [40, 100, 0.5, 0.98])
def test_a_webp_that_was_cut_short_is_refused(length):
    data = read_webp(encoded(noise("RGB"), "WEBP")).image
    cut = data[: int(length * len(data)) if length < 1 else length]
    with pytest.raises(ValueError):
        decode_region(cut, (61, 47), False, region_of((0, 0, 61, 47)))


@pytest.mark.skipif(webp_library.library() is None, reason="Pillow's libwebp cannot be called")
def test_a_webp_of_another_size_is_refused():
    with pytest.raises(ValueError, match="size"):
        decode_region(encoded(noise("RGB"), "WEBP"), (60, 47), False, region_of((0, 0, 60, 47)))
