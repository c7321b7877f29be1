"""A text that stands for a picture: a field of a form, an input of JSON, a whole body."""

from __future__ import annotations

from server.dialects.classify.base64_text import BrokenBase64, decode_base64
from server.dialects.classify.picture import Picture
from server.http.faults import BadRequest


def picture_of(text: str, what: str, filename: str | None = None, hint: str = "") -> Picture:
    """The picture whose base64 or data URL it is; with the error where it is neither.

    Args:
        text: base64 or a data URL.
        what: the text is, for people: 'The field "image"'.
        filename: of the picture.
        hint: what to do where it is no base64.
    """
    if not text.strip():
        return Picture(filename, b"", BadRequest(f"{what} is empty."))
    try:
        data = decode_base64(text)
    except BrokenBase64 as fault:
        return Picture(filename, b"", BadRequest(f"{what} must be base64, but {fault}.", hint))
    return Picture(filename, data, None if data else BadRequest(f"{what} is an empty picture."))
