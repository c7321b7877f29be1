"""A region of an image, converted strip by strip: what is between two formats is never held of all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from models.images.geometry import Pixels, Region

Box = tuple[int, int, int, int]  # left, top, right, bottom, as Pillow counts

_PIXELS = 1 << 20  # of one strip


def read_strips(region: Region, read: Callable[[Box], Pixels]) -> Pixels:
    """Fills a region.

    Args:
        region: at scale 1.
        read: gives the pixels of a box, uint8 [rows, columns] or [rows, columns, 1 or 3].

    Returns:
        uint8 [rows, columns, 1 or 3], from the first pixel of the image to the last of the region; what lies in
        front of the region is not written, and so takes no memory.
    """
    pixels: Pixels | None = None
    for box in _boxes(region):
        strip = np.atleast_3d(read(box))
        if strip.shape[:2] == (region.down.stop, region.across.stop):
            return strip
        if pixels is None:
            pixels = np.empty((region.down.stop, region.across.stop, strip.shape[2]), np.uint8)
        left, top, right, bottom = box
        pixels[top:bottom, left:right] = strip
    assert pixels is not None
    return pixels


def _boxes(region: Region) -> Iterator[Box]:
    """Of about a megapixel each, whatever the aspect."""
    across, down = region.across, region.down
    columns = min(_PIXELS, across.stop - across.start)
    rows = max(1, _PIXELS // columns)
    for top in range(down.start, down.stop, rows):
        for left in range(across.start, across.stop, columns):
            yield left, top, min(left + columns, across.stop), min(top + rows, down.stop)
