"""A text that stands for an image: a field of a form, an input of JSON, a whole body."""

from __future__ import annotations

from server.dialects.classify.uploaded_image import UploadedImage
from server.http.base64_text import BrokenBase64, decode_base64
from server.http.faults import BadRequest


def image_of(text: str, what: str, filename: str | None = None, hint: str = "") -> UploadedImage:
    """The image whose base64 or data URL it is; with the error where it is neither.

    Args:
        text: base64 or a data URL.
        what: the text is, for people: 'The field "image"'.
        filename: of the image.
        hint: what to do where it is no base64.
    """
    if not text.strip():
        return UploadedImage(filename, b"", BadRequest(f"{what} is empty."))
    try:
        data = decode_base64(text)
    except BrokenBase64 as fault:
        return UploadedImage(filename, b"", BadRequest(f"{what} must be base64, but {fault}.", hint))
    return UploadedImage(filename, data, None if data else BadRequest(f"{what} is an empty image."))
