"""The libwebp that Pillow was built with, called directly: a region, decoded into memory of ours.

Pillow decodes each WebP as an animation: two canvases of four bytes a pixel, a copy as bytes and one as an image,
together 18 bytes a pixel; here it is 3, and 4 more while a lossless file is decoded. The functions and structures
are libwebp's public ones: https://developers.google.com/speed/webp/docs/api, src/webp/decode.h.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np

from models.images.colour import on_white
from models.images.geometry import Pixels, Region

_ABI = 0x0209  # the upper byte counts: the same since libwebp 0.2
_RGB, _RGBA = 0, 1  # WEBP_CSP_MODE
_SPARE = 64  # words: should a later library's structure be longer
_NEIGHBOURS = 2  # pixels, which interpolated colour takes into account

_Int = ctypes.c_int
_Words = ctypes.c_uint32


class _Features(ctypes.Structure):
    _fields_ = (
        ("width", _Int),
        ("height", _Int),
        ("has_alpha", _Int),
        ("has_animation", _Int),
        ("format", _Int),
        ("pad", _Words * 5),
    )


class _Rgba(ctypes.Structure):
    _fields_ = (("pixels", ctypes.c_void_p), ("stride", _Int), ("size", ctypes.c_size_t))


class _Yuva(ctypes.Structure):
    _fields_ = (("planes", ctypes.c_void_p * 4), ("strides", _Int * 4), ("sizes", ctypes.c_size_t * 4))


class _Memory(ctypes.Union):
    _fields_ = (("rgba", _Rgba), ("yuva", _Yuva))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("colorspace", _Int),
        ("width", _Int),
        ("height", _Int),
        ("is_external_memory", _Int),
        ("memory", _Memory),
        ("pad", _Words * 4),
        ("private_memory", ctypes.c_void_p),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("bypass_filtering", _Int),
        ("no_fancy_upsampling", _Int),
        ("use_cropping", _Int),
        ("crop_left", _Int),
        ("crop_top", _Int),
        ("crop_width", _Int),
        ("crop_height", _Int),
        ("use_scaling", _Int),
        ("scaled_width", _Int),
        ("scaled_height", _Int),
        ("use_threads", _Int),
        ("dithering_strength", _Int),
        ("flip", _Int),
        ("alpha_dithering_strength", _Int),
        ("pad", _Words * 5),
    )


class _Config(ctypes.Structure):
    _fields_ = (("input", _Features), ("output", _Buffer), ("options", _Options), ("spare", _Words * _SPARE))


@lru_cache
def library() -> Any:
    """libwebp, or None where Pillow has none or hides its functions."""
    try:
        from PIL import _webp

        found = ctypes.CDLL(_webp.__file__)  # looks into what it was linked with, too
        found.WebPDecode.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_Config))
        return found if found.WebPInitDecoderConfigInternal(ctypes.byref(_Config()), _ABI) else None
    except (ImportError, OSError, AttributeError):
        return None


def decode_region(data: bytes, size: tuple[int, int], has_alpha: bool, region: Region) -> Pixels:
    """Decodes a region of a WebP that is no animation, without the GIL.

    Args:
        data: the file.
        size: width and height of the whole image.
        has_alpha: whether its alpha counts; it is then laid on white.
        region: at scale 1, inside the image.

    Returns:
        uint8 [rows, columns, 3], from the first pixel of the image on, at least to the last of the region; what
        lies in front of the region is not written.

    Raises:
        ValueError: the data are damaged, or of another size.
    """
    width, height = size
    left, right = _widened(region.across, width)
    top, bottom = _widened(region.down, height)
    pixels = np.empty((bottom, right, 3), np.uint8)
    wanted = pixels[top:, left:]
    if not has_alpha:
        _decode(data, size, (left, top), _RGB, wanted)
        return pixels
    rgba = np.empty((*wanted.shape[:2], 4), np.uint8)
    _decode(data, size, (left, top), _RGBA, rgba)
    on_white(rgba, wanted)
    return pixels


def _widened(part: slice, length: int) -> tuple[int, int]:
    """(start, stop): colour has half the resolution, so a region begins at an even pixel; its border differs."""
    return max(0, part.start - _NEIGHBOURS) // 2 * 2, min(length, part.stop + _NEIGHBOURS)


def _decode(data: bytes, size: tuple[int, int], corner: tuple[int, int], colours: int, pixels: Pixels) -> None:
    found, config = library(), _Config()
    found.WebPInitDecoderConfigInternal(ctypes.byref(config), _ABI)
    found.WebPGetFeaturesInternal(data, ctypes.c_size_t(len(data)), ctypes.byref(config.input), _ABI)
    if (config.input.width, config.input.height) != size:
        raise ValueError("it has another size")
    options, output = config.options, config.output
    options.use_cropping = 1
    options.crop_left, options.crop_top = corner
    options.crop_height, options.crop_width = pixels.shape[:2]
    output.colorspace, output.is_external_memory = colours, 1
    # The last row ends where its pixels do, not after a stride.
    length = pixels.strides[0] * (len(pixels) - 1) + pixels.shape[1] * pixels.shape[2]
    output.memory.rgba = _Rgba(pixels.ctypes.data, pixels.strides[0], length)
    if found.WebPDecode(data, len(data), ctypes.byref(config)):
        raise ValueError("libwebp cannot decode it")
