"""What several folders of tests share."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image


def encode(pixels, format="PNG", **options):
    """The bytes of a picture file. pixels: uint8 [H, W] or [H, W, 3 or 4]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def flat(value, size=8):
    """A square PNG of one grey level."""
    return encode(np.full((size, size, 3), value, np.uint8))


@pytest.fixture
def noise():
    """A function from a seed to the PNG bytes of 8 x 8 random pixels."""

    def make(seed):
        return encode(np.random.default_rng(seed).integers(0, 77, (8, 8, 3), np.uint8))

    return make
