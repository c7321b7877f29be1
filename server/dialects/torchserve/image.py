"""Named values of a request -> the image in them, for models that run without a handler."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from models.images.formats import IMAGES, sniff
from runtime.errors import InvalidInput
from runtime.inputs import Image, JsonText
from server.dialects.torchserve.fields import BODY
from server.http.base64_text import BrokenBase64, decode_base64, is_data_url
from server.http.faults import BadRequest

DATA = "data"
_BEGINNING = 64  # bytes in which JSON begins
_OF_BASE64 = 200  # characters that tell a file's kind
_OF_PILLOW = ("BMP", "GIF", "ICO", "JPEG 2000", "PSD", "TIFF")


def is_image(body: bytearray) -> bool:
    """Whether a body is an image, whatever its Content-Type says."""
    return sniff(body, IMAGES).supported


def is_for_handler(values: Mapping[str, Any]) -> bool:
    """Whether a request is for the built-in handler only: the values of a tensor, or a file that Pillow knows.

    Such a file may be in base64, but not in a data URL, which the handler does not read.
    """
    given = _opened(values.get(DATA, values.get(BODY)))
    if isinstance(given, str) and not is_data_url(given):
        given = _beginning_of(given)
    if isinstance(given, bytes | bytearray | memoryview):
        return sniff(given, IMAGES).name in _OF_PILLOW
    return isinstance(given, list)


def _beginning_of(text: str) -> bytes:
    """The first bytes that a text in base64 holds; none where it is broken."""
    try:
        return decode_base64(text[:_OF_BASE64])
    except BrokenBase64:
        return b""


def image_of(values: Mapping[str, Any]) -> Image:
    """The image in the field `data`, else `body`: bytes of a file, or their base64 as a text.

    Raises:
        BadRequest: there is no such field, it is empty, or a text that is no base64.
        InvalidInput: it is a list or an object.
    """
    name = DATA if DATA in values else BODY
    given = _opened(values.get(name))
    if given is None:
        raise BadRequest(f"The form holds no image: its field must be called {DATA}, or {BODY}.")
    if isinstance(given, str):
        try:
            given = decode_base64(given)
        except BrokenBase64 as fault:
            raise BadRequest(f"{name} must be base64, but {fault}.") from None
    if not isinstance(given, bytes | bytearray | memoryview):
        raise InvalidInput(f"{name} must be the bytes of an image, or their base64 as a text.")
    if not len(given):
        raise BadRequest("The body is empty; send an image.")
    return Image(given)


def _opened(given: Any) -> Any:
    """A value; of long JSON, of which only a text can be an image, the text, or an empty list or object."""
    if not isinstance(given, JsonText):
        return given
    match bytes(given.data[:_BEGINNING]).lstrip(b" \t\r\n")[:1]:
        case b"[":
            return []
        case b"{":
            return {}
        case b'"':
            with contextlib.suppress(ValueError):
                return json.loads(bytes(given.data))
    return given.data
