"""HEIC and AVIF through the service: refused with a hint unless they were asked for."""

from __future__ import annotations

import io

import aiohttp
import pytest
from PIL import Image, features

from models.images.formats import installation
from server.config import ConfigError, LimitConfig
from tests.conftest import lacking
from tests.server.conftest import problem_of


@pytest.fixture(params=["AVIF", "HEIC"])
def image(request):
    """The format's name and a file of it."""
    if request.param == "HEIC":
        if installation("HEIC"):
            lacking("pillow-heif is not installed; the extra [heif] brings it")
        import pillow_heif

        pillow_heif.register_heif_opener()
    elif not features.check("avif"):
        lacking("this Pillow has no AVIF")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "HEIF" if request.param == "HEIC" else "AVIF")
    return request.param, buffer.getvalue()


def form(data):
    body = aiohttp.FormData()
    body.add_field("image", data, filename="photo.bin")
    return body


@pytest.mark.parametrize("wrap", [bytes, form])
async def test_it_is_classified_where_it_is_accepted(start, image, wrap):
    name, data = image
    server = await start(accept_format=(name,))
    async with server.post(wrap(data)) as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize("wrap", [bytes, form])
async def test_the_hint_names_it_where_it_is_not(start, image, wrap):
    name, data = image
    server = await start()
    async with server.post(wrap(data)) as response:
        problem = await problem_of(response, 415)
    assert problem["hint"] == f"This looks like {name}; convert it to JPEG, PNG or WebP."


def test_others_cannot_be_accepted():
    with pytest.raises(ConfigError, match="--accept-format GIF: must be HEIC or AVIF"):
        LimitConfig(accept_format=("AVIF", "GIF"))
