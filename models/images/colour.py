"""What Pillow decodes -> 8 bits of grey or RGB, with what is transparent on white."""

from __future__ import annotations

import numpy as np
from PIL import Image

from models.images.geometry import Pixels

STRIP = 256  # rows that are blended at once


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
        return Image.fromarray(on_white(np.asarray(image.convert("RGBA"))))
    return image.convert("L" if image.mode == "1" else "RGB")


def on_white(rgba: Pixels) -> Pixels:
    """uint8 [rows, columns, 4] -> [rows, columns, 3].

    numpy rather than Image.paste, for the same reason as in `resize`; in strips, so that 50 megapixels do not need
    gigabytes for intermediate results.
    """
    blended = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), STRIP):
        strip = rgba[top : top + STRIP].astype(np.uint16)
        alpha = strip[..., 3:]
        # At most 65,152: it fits.
        blended[top : top + STRIP] = (strip[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return blended
