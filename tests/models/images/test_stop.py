"""A decode that nobody waits for is stopped."""

from __future__ import annotations

import numpy as np
import pytest

from models.bundles.spec import IMAGENET
from models.images.jpeg import jpeg_region
from models.images.preprocess import Preprocessor
from models.images.stop import Stop, StoppableFile, Stopped
from tests.models.image_files import RGB, encoded, photo, png


class Countdown(Stop):
    """Is set when it was looked at so often."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def check(self):
        self.looks -= 1
        if self.looks < 0:
            self.set()
        super().check()


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_what_was_stopped_before_is_not_decoded(format):
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        Preprocessor(IMAGENET)(photo(format), stop)


def test_a_png_is_stopped_between_two_pieces():
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3))
    stop = Countdown(20)
    with pytest.raises(Stopped):
        Preprocessor(IMAGENET)(png(noise, 8, RGB), stop)
    assert stop.looks == -1, "and not later"


@pytest.mark.skipif(jpeg_region is None, reason="it was not built")
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_stopped_by_the_byte_that_native_code_looks_at(progressive):
    data = photo("JPEG", (333, 451), progressive=progressive)
    pixels = np.zeros((451, 333, 3), np.uint8)
    with pytest.raises(ValueError, match="stopped"):
        jpeg_region.decode(data, (333, 451), 1, (0, 0), pixels, b"\1")
    assert not pixels[16:].any()
    jpeg_region.decode(data, (333, 451), 1, (0, 0), pixels, b"\0")
    assert pixels[16:].any()


def test_a_file_reads_as_usual_until_then():
    stop = Stop()
    file = StoppableFile(b"abcdef", stop)
    assert file.read(3) == b"abc"
    stop.set()
    with pytest.raises(Stopped):
        file.read(3)


def test_a_cmyk_jpeg_is_pillows_and_stops_too():
    from PIL import Image

    stop = Countdown(3)
    with pytest.raises(Stopped):
        Preprocessor(IMAGENET)(encoded(Image.effect_noise((900, 900), 90).convert("CMYK"), "JPEG"), stop)
