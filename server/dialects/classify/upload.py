"""The body of a request to /classify -> the images in it and the parameters beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from models.images.formats import IMAGES, sniff
from runtime.cpu_pool import CpuPool
from server.config import LimitConfig
from server.dialects.classify.form import read_form
from server.dialects.classify.json_body import read_json
from server.dialects.classify.text_field import image_of
from server.dialects.classify.uploaded_image import UploadedImage
from server.dialects.classify.urlencoded_body import parse_urlencoded
from server.http.base64_text import holds_file
from server.http.faults import BadRequest, BodyTooLarge, FormWithoutType
from server.http.multipart import parse_multipart
from server.http.urlencoded import is_urlencoded

_SPARE_PARTS = 16
# Bytes that are parsed in a millisecond or two; longer bodies are parsed on the CPU pool.
_PARSE_ON_LOOP = 1_000_000
_BEGINS_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{")
_BEGINS_FORM = re.compile(rb"\s*--[^\r\n]{1,200}\r?\nContent-", re.IGNORECASE)


@dataclass
class Upload:
    """What a body holds.

    Attributes:
        images: at least one, in the order sent.
        fields: parameters that came in the body, by name.
    """

    images: list[UploadedImage]
    fields: Mapping[str, Any]


class UploadParser:
    """Takes bodies apart: forms, base64 in JSON, or the bytes of one image."""

    def __init__(self, limits: LimitConfig, cpu_pool: CpuPool) -> None:
        """Creates it.

        Args:
            limits: of sizes.
            cpu_pool: where bodies are parsed that are too long for the event loop.
        """
        self._cpu_pool = cpu_pool
        self._max_files = limits.max_files
        self._max_image = int(limits.max_image_mb * 1_000_000)
        self._max_body = int(limits.max_body_mb * 1_000_000)

    def limit_of(self, request: web.Request) -> int:
        """Most bytes of the body of a request."""
        if _is_json(request.content_type):
            # All images of a JSON body together may be as large as one; the limit counts decoded bytes. Base64
            # takes 4 for 3 of them; line ends and slashes that JSON escapes, an eighth of that.
            return self._max_image * 3 // 2 + 65_536
        return self._max_body

    async def parse_where_it_fits(self, body: bytearray, request: web.Request, deadline: float) -> Upload:
        """Parses on the event loop what is short, the rest on the CPU pool. Raises as `parse` does."""
        media_type, content_type = request.content_type, request.headers.get("Content-Type", "")
        if len(body) <= _PARSE_ON_LOOP or sniff(body, IMAGES).supported:
            return self.parse(body, media_type, content_type)
        return await self._cpu_pool.run(partial(self.parse, body, media_type, content_type), deadline)

    def parse(self, body: bytearray, media_type: str, content_type: str) -> Upload:
        """Takes a body apart. Its bytes decide before its headers: an image is an image.

        Args:
            body: the whole body.
            media_type: of the request, without parameters, in lower case.
            content_type: the whole header.

        Raises:
            BadRequest: the body is not what its headers say, or holds no image.
            BodyTooLarge: there are too many files.
            FormWithoutType: a form whose Content-Type is missing.
        """
        if not body:
            raise BadRequest("The body is empty; send an image.", "curl -F image=@cat.jpg sends one.")
        if sniff(body, IMAGES).supported:
            return self._checked([UploadedImage(None, body)], {})
        if media_type.startswith("multipart/"):
            # One more than allowed is looked at, with room for parameters, to tell how many there are.
            return self._checked(*read_form(parse_multipart(body, content_type, self._max_files + _SPARE_PARTS)))
        if _is_json(media_type) or _BEGINS_OBJECT.match(body):
            return self._from_json(body)
        if media_type == "application/x-www-form-urlencoded" and is_urlencoded(body):
            return self._checked(*read_form(parse_urlencoded(body, self._max_files + _SPARE_PARTS)))
        if _BEGINS_FORM.match(body):
            raise FormWithoutType
        if holds_file(body):
            return self._checked([image_of(body.decode("latin-1"), "The body")], {})
        return self._checked([UploadedImage(None, body)], {})

    def error_of(self, image: UploadedImage) -> Exception | None:
        """The error of an image that needs no decoding to be found: empty, no base64, too large. Else None."""
        size, limit = len(image.data), self._max_image
        if image.error or size <= limit:
            return image.error
        return BodyTooLarge(f"The image has {size:,} bytes, at most {limit:,} are allowed.", limit, size)

    def _from_json(self, body: bytearray) -> Upload:
        texts, parameters = read_json(body, self._max_files)
        many = len(texts) > 1
        images = [
            image_of(text, f'Number {number} of "inputs"' if many else '"inputs"')
            for number, text in enumerate(texts, start=1)
        ]
        return self._checked(images, parameters)

    def _checked(self, images: list[UploadedImage], fields: Mapping[str, Any]) -> Upload:
        most = self._max_files
        if len(images) > most:
            raise BodyTooLarge(f"{len(images)} files, at most {most} are allowed.", most, len(images))
        return Upload(images, fields)


def _is_json(media_type: str) -> bool:
    return media_type.endswith(("/json", "+json"))
