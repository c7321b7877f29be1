"""The parts of a form -> the images and the parameters in it."""

from __future__ import annotations

import quopri
from collections.abc import Iterable
from typing import Any

from models.images.formats import IMAGES, sniff
from server.dialects.classify.parameters import NAMES, chosen
from server.dialects.classify.text_field import image_of
from server.dialects.classify.uploaded_image import UploadedImage
from server.http.base64_text import holds_file
from server.http.faults import BadRequest
from server.http.multipart import Part

_IMAGE_FIELDS = ("image", "file")
_NO_BASE64 = "Send the file itself, curl -F image=@cat.jpg (with the @), or its base64."
_NO_BYTES = "The client read none: the file may not be written yet, or a stream was read before."
_NO_FILE = "curl -F image=@cat.jpg sends one; the @ stands before its path."


def read_form(parts: Iterable[Part]) -> tuple[list[UploadedImage], dict[str, Any]]:
    """The images, in the order sent, and the parameters that were chosen.

    Every part with a filename is an image, and so is one that is named like an image, that has a Content-Type of
    no text, or that holds the bytes or the base64 of a file. Other text fields are passed over.

    Raises:
        BadRequest: there is no image, or a parameter is wrong.
    """
    images, fields = [], []
    for part in parts:
        if part.filename is None and not _is_image(part):
            fields.append((part.name, part))
        elif part.filename != "" or len(part.data):
            # Else a browser's file input that was left alone.
            images.append(_image(part))
    named = ((name, _text(part) if name in NAMES else "") for name, part in fields)
    parameters = chosen(named, "the form") if fields else {}
    if not images:
        raise BadRequest("The form holds no file; send one as field 'image'.", _NO_FILE)
    return images, parameters


def _is_image(part: Part) -> bool:
    """Whether a part without a filename is one."""
    if part.name in NAMES:
        return False
    if part.name in _IMAGE_FIELDS or sniff(part.data, IMAGES).supported or holds_file(part.data):
        return True
    return part.media_type != "" and not part.media_type.startswith(("text/", "application/json"))


def _image(part: Part) -> UploadedImage:
    if not len(part.data):
        return UploadedImage(part.filename, b"", BadRequest(f"{_title(part)} is empty.", _NO_BYTES))
    if part.encoding == "quoted-printable":
        return UploadedImage(part.filename, quopri.decodestring(bytes(part.data)))
    if part.encoding == "base64" or _is_text(part):
        text = bytes(part.data).decode("latin-1")
        return image_of(text, _title(part), part.filename, "" if part.encoding else _NO_BASE64)
    return UploadedImage(part.filename, part.data)


def _title(part: Part) -> str:
    """What a part is called, for people."""
    if part.filename:
        return f"The file {part.filename}"
    return f'The field "{part.name}"' if part.name else "A part without a name"


def _is_text(part: Part) -> bool:
    """Whether the content stands for an image, and is none itself."""
    if sniff(part.data).name is not None:
        return False
    plain_field = part.filename is None and (not part.media_type or part.media_type.startswith("text/"))
    return holds_file(part.data) or (plain_field and bytes(part.data[:200]).isascii())


def _text(part: Part) -> str:
    try:
        return bytes(part.data).decode()
    except UnicodeDecodeError:
        raise BadRequest(f"The field {part.name} is not UTF-8 text.") from None
