"""HTTP body -> the pictures in it and the parameters beside them, within limits."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from batching import DeadlineExceeded
from models.formats import sniff
from server.config import LimitConfig
from server.decode_pool import DecodePool
from server.errors import BadRequest, BodyTooLarge, CompressedBody, OutOfUploadMemory, SlowBody
from server.multipart_body import Part, parse_multipart
from server.parameters import NAMES

_PICTURE_FIELDS = ("image", "file")
_SPARE_PARTS = 16
# Bytes whose splitting takes a millisecond or two; longer bodies are taken apart on the decode pool.
_PARSE_ON_LOOP = 1_000_000


class Picture(NamedTuple):
    """An encoded picture as it came. `data` may be a view into the request's body."""

    filename: str | None
    data: bytes | bytearray | memoryview


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
        """Reads the body and takes it apart: multipart, base64 in JSON, or the bytes of one picture.

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
        if len(body) <= _PARSE_ON_LOOP or sniff(body).supported:
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
            raise BadRequest("The body is empty; send a picture.")
        if sniff(body).supported:
            return self._checked([Picture(None, body)], {})
        if media_type.startswith("multipart/"):
            # One more than allowed is looked at, with room for parameters, to tell how many there are.
            return self._from_form(parse_multipart(body, content_type, self._limits.max_files + _SPARE_PARTS))
        if media_type == "application/json" or body[:1] == b"{":
            return self._from_json(body)
        return self._checked([Picture(None, body)], {})

    def _from_form(self, parts: list[Part]) -> Upload:
        pictures = [Picture(part.filename, part.data) for part in parts if _is_picture(part)]
        fields = {part.name: _text(part) for part in parts if part.filename is None and part.name in NAMES}
        return self._checked(pictures, fields)

    def _from_json(self, body: bytearray) -> Upload:
        # Base64 has none of these characters; json.loads on millions of them holds up every thread for seconds.
        if sum(map(body.count, (b",", b"[", b"{"))) > 10 * self._limits.max_files + 100:
            raise BadRequest("The JSON holds more than pictures and parameters.")
        document = _json_object(body)
        inputs = document.get("inputs")
        encoded: list[Any] = inputs if isinstance(inputs, list) and inputs else [inputs]
        pictures = [Picture(None, _base64(text)) for text in encoded]
        parameters = document.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise BadRequest('"parameters" must be an object.')
        return self._checked(pictures, parameters)

    def _checked(self, pictures: list[Picture], fields: Mapping[str, Any]) -> Upload:
        if not pictures:
            raise BadRequest("The form holds no file; send one as field 'image'.")
        most = self._limits.max_files
        if len(pictures) > most:
            raise BodyTooLarge(f"{len(pictures)} files, at most {most} are allowed.", most, len(pictures))
        if len(pictures) == 1:
            self.check_size(pictures[0])
        return Upload(pictures, fields)

    def check_size(self, picture: Picture) -> None:
        """Raises BodyTooLarge if the picture has more bytes than one may have."""
        size, limit = len(picture.data), self._max_image
        if size > limit:
            raise BodyTooLarge(f"The picture has {size:,} bytes, at most {limit:,} are allowed.", limit, size)

    def _body_limit(self, request: web.Request) -> int:
        if request.content_type == "application/json":
            # All pictures of a JSON body together may be as large as one; the limit counts decoded bytes.
            return self._max_image * 4 // 3 + 65_536
        return self._max_body


def _is_picture(part: Part) -> bool:
    if part.filename is not None:
        # A browser sends an empty, nameless file for a file input that was left alone.
        return bool(part.filename) or len(part.data) > 0
    return part.name in _PICTURE_FIELDS or (part.name not in NAMES and sniff(part.data).supported)


def _text(part: Part) -> str:
    try:
        return bytes(part.data).decode()
    except UnicodeDecodeError:
        raise BadRequest(f"The field {part.name} is not text.") from None


def _json_object(body: bytearray) -> dict[str, Any]:
    # RecursionError: thousands of nested brackets.
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict):
            return document
    raise BadRequest("The body is not a JSON object.")


def _base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise BadRequest('The JSON needs "inputs": a base64 string, or a list of them.')
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("The base64 of a picture is broken.") from None
