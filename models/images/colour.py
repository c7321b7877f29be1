"""What Pillow decodes -> 8 bits of grey or RGB, with what is transparent on white."""

from __future__ import annotations

import numpy as np
from PIL import Image

from models.images.geometry import Pixels, Region
from models.images.strips import Box, read_strips

_STRIP = 1 << 18  # pixels that are blended at once, which fit into a processor's cache


def pixels_of(image: Image.Image, region: Region) -> Pixels:
    """A region of a decoded image: uint8 [rows, columns, 1 or 3], as `read_strips` gives it."""
    return read_strips(region, lambda box: np.asarray(to_rgb(cut(image, box))))


def cut(image: Image.Image, box: Box) -> Image.Image:
    """A box inside of a decoded image; the image itself where that is all of it."""
    return image if box == (0, 0, *image.size) else image.crop(box)


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts to 8 bits per channel: mode L stays L, everything else becomes RGB.

    - 1 bit becomes grey; 16 bits of grey keep their high byte.
    - LA and RGBA are laid on white.
    - CMYK and YCCK go through Pillow's plain conversion, without a colour profile.
    """
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("LA", "RGBA", "La", "RGBa"):
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.fromarray(on_white(np.asarray(rgba)))
    return image.convert("L" if image.mode == "1" else "RGB")


def on_white(rgba: Pixels, blended: Pixels | None = None) -> Pixels:
    """uint8 [rows, columns, 4] -> [rows, columns, 3].

    numpy rather than Image.paste, for the same reason as in `resize`; in strips, so that 50 megapixels do not need
    gigabytes for intermediate results.

    Args:
        rgba: what is blended.
        blended: where the result goes; it may be the memory of `rgba`, if no row of it begins behind rgba's.
    """
    blended = np.empty((*rgba.shape[:2], 3), np.uint8) if blended is None else blended
    rows = max(1, _STRIP // max(1, rgba.shape[1]))
    for top in range(0, len(rgba), rows):
        strip = rgba[top : top + rows]
        if (strip[..., 3] == 255).all():
            blended[top : top + rows] = strip[..., :3]
        else:
            blended[top : top + rows] = _blended(strip.astype(np.uint16))
    return blended


def _blended(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:]
    # At most 65,152: it fits.
    blended: np.ndarray = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return blended
