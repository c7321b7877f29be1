"""Photos that are made of the project's."""

from __future__ import annotations

from PIL import Image

from benchmark.harness.photos import photos_alike


def test_the_photos_are_alike_in_size_and_weight(tmp_path):
    files = photos_alike(tmp_path)
    assert len({file.read_bytes() for file in files}) == 4
    for file in files:
        assert abs(file.stat().st_size - 64 * 1024) < 4096
        with Image.open(file) as image:
            assert (image.format, image.size) == ("JPEG", (498, 720))
