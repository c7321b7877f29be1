"""HTTP body -> the pictures in it and the parameters beside them, within limits."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from batching import DeadlineExceeded
from models.images.formats import IMAGES, sniff
from runtime.cpu_pool import DecodePool
from server.config import LimitConfig
from server.dialects.classify.base64_text import holds_file
from server.dialects.classify.form import read_form
from server.dialects.classify.json_body import read_json
from server.dialects.classify.picture import Picture
from server.dialects.classify.text_field import picture_of
from server.dialects.classify.urlencoded_body import is_urlencoded, parse_urlencoded
from server.http.faults import (
    BadRequest,
    BodyTooLarge,
    CompressedBody,
    FormWithoutType,
    OutOfUploadMemory,
    SlowBody,
)
from server.http.multipart import parse_multipart

_SPARE_PARTS = 16
# Bytes whose splitting takes a millisecond or two; longer bodies are taken apart on the decode pool.
_PARSE_ON_LOOP = 1_000_000
_BEGINS_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{")
_BEGINS_FORM = re.compile(rb"\s*--[^\r\n]{1,200}\r?\nContent-", re.IGNORECASE)


@dataclass
class Upload:
    """What a request's body holds.

    Attributes:
        pictures: at least one, in the order sent.
        fields: parameters that came in the body, by name.
        held: bytes of the body, until it is released.
    """

    pictures: list[Picture]
    fields: Mapping[str, Any]
    held: int = 0


class UploadMemory:
    """Counts the bytes of all bodies that are being held, and refuses to hold too many."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> None:
        """Raises OutOfUploadMemory, taking nothing, if `count` more bytes do not fit."""
        if self.used + count > self.limit:
            raise OutOfUploadMemory("Too many uploads are being received; try again later.")
        self.used += count

    def give_back(self, count: int) -> None:
        self.used -= count


class UploadReader:
    """Reads request bodies within the configured limits."""

    def __init__(self, limits: LimitConfig, decode_pool: DecodePool) -> None:
        """Creates a reader.

        Args:
            limits: sizes and times.
            decode_pool: where bodies are split that are too long for the event loop.
        """
        self._limits = limits
        self._decode_pool = decode_pool
        self._max_image = int(limits.max_image_mb * 1_000_000)
        self._max_body = int(limits.max_body_mb * 1_000_000)
        self._memory = UploadMemory(int(limits.max_upload_memory_mb * 1_000_000))

    def check_announced(self, request: web.Request) -> None:
        """Judges a request by its headers alone, before anything of the body is read.

        Raises:
            CompressedBody: it says Content-Encoding.
            BodyTooLarge: its Content-Length is over the limit.
        """
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise CompressedBody("A body with a Content-Encoding is not accepted.")
        length, limit = request.content_length, self._body_limit(request)
        if length is not None and length > limit:
            raise BodyTooLarge(f"The body has {length:,} bytes, at most {limit:,} are allowed.", limit, length)

    async def read_images(self, request: web.Request, deadline: float) -> Upload:
        """Reads the body and takes it apart: a form, base64 in JSON, or the bytes of one picture.

        The bytes count as held until `release` of the upload is called.

        Raises:
            BadRequest: the body is not what it says, or holds no picture.
            BodyTooLarge: too many bytes or files.
            CompressedBody: it says Content-Encoding.
            DeadlineExceeded: `deadline`, of `time.monotonic()`, passed first.
            OutOfUploadMemory: other uploads fill the memory set aside for them.
            SlowBody: it did not arrive within `body_timeout_s`.
        """
        self.check_announced(request)
        body = bytearray()
        try:
            await self._read(request, body, deadline)
            upload = await self._parse_where_it_fits(body, request, deadline)
        except BaseException:
            self._memory.give_back(len(body))
            raise
        upload.held = len(body)
        return upload

    def release(self, upload: Upload) -> None:
        """Counts the bytes of an upload as held no longer."""
        self._memory.give_back(upload.held)

    async def _read(self, request: web.Request, body: bytearray, deadline: float) -> None:
        content = request.content
        if content.is_eof():  # it came with its headers: nothing to wait for
            self._take(content.read_nowait(), body, request)
            return
        slow_at = time.monotonic() + self._limits.body_timeout_s
        try:
            async with asyncio.timeout_at(min(slow_at, deadline)):
                while chunk := await content.readany():
                    self._take(chunk, body, request)
        except TimeoutError:
            if deadline < slow_at:
                raise DeadlineExceeded("the deadline passed before the body had arrived") from None
            seconds = self._limits.body_timeout_s
            raise SlowBody(f"The body did not arrive within {seconds:g} s.") from None

    def _take(self, chunk: bytes, body: bytearray, request: web.Request) -> None:
        self._memory.take(len(chunk))
        body += chunk
        if len(body) > (limit := self._body_limit(request)):
            raise BodyTooLarge(f"The body has more than {limit:,} bytes.", limit, None)

    async def _parse_where_it_fits(self, body: bytearray, request: web.Request, deadline: float) -> Upload:
        media_type, content_type = request.content_type, request.headers.get("Content-Type", "")
        if len(body) <= _PARSE_ON_LOOP or sniff(body, IMAGES).supported:
            return self.parse(body, media_type, content_type)
        return await self._decode_pool.run(partial(self.parse, body, media_type, content_type), deadline)

    def parse(self, body: bytearray, media_type: str, content_type: str) -> Upload:
        """Takes a body apart. What it holds decides before what it says: a picture is a picture.

        Args:
            body: the whole body.
            media_type: of the request, without parameters, in lower case.
            content_type: the whole header.
        """
        if not body:
            raise BadRequest("The body is empty; send a picture.", "curl -F image=@cat.jpg sends one.")
        if sniff(body, IMAGES).supported:
            return self._checked([Picture(None, body)], {})
        if media_type.startswith("multipart/"):
            # One more than allowed is looked at, with room for parameters, to tell how many there are.
            parts = parse_multipart(body, content_type, self._limits.max_files + _SPARE_PARTS)
            return self._checked(*read_form(parts))
        if _is_json(media_type) or _BEGINS_OBJECT.match(body):
            return self._from_json(body)
        if media_type == "application/x-www-form-urlencoded" and is_urlencoded(body):
            return self._checked(*read_form(parse_urlencoded(body, self._limits.max_files + _SPARE_PARTS)))
        if _BEGINS_FORM.match(body):
            raise FormWithoutType
        if holds_file(body):
            return self._checked([picture_of(body.decode("latin-1"), "The body")], {})
        return self._checked([Picture(None, body)], {})

    def _from_json(self, body: bytearray) -> Upload:
        texts, parameters = read_json(body, self._limits.max_files)
        many = len(texts) > 1
        pictures = [
            picture_of(text, f'Number {number} of "inputs"' if many else '"inputs"')
            for number, text in enumerate(texts, start=1)
        ]
        return self._checked(pictures, parameters)

    def _checked(self, pictures: list[Picture], fields: Mapping[str, Any]) -> Upload:
        most = self._limits.max_files
        if len(pictures) > most:
            raise BodyTooLarge(f"{len(pictures)} files, at most {most} are allowed.", most, len(pictures))
        return Upload(pictures, fields)

    def check(self, picture: Picture) -> None:
        """Raises what is wrong with a picture that can be told without decoding it.

        Raises:
            BadRequest: it is empty, or was no base64.
            BodyTooLarge: it has more bytes than one may have.
        """
        if picture.error:
            raise picture.error
        size, limit = len(picture.data), self._max_image
        if size > limit:
            raise BodyTooLarge(f"The picture has {size:,} bytes, at most {limit:,} are allowed.", limit, size)

    def _body_limit(self, request: web.Request) -> int:
        if _is_json(request.content_type):
            # All pictures of a JSON body together may be as large as one; the limit counts decoded bytes. Base64
            # takes 4 for 3 of them; line ends and slashes that JSON escapes, an eighth of that.
            return self._max_image * 3 // 2 + 65_536
        return self._max_body


def _is_json(media_type: str) -> bool:
    return media_type.endswith(("/json", "+json"))
