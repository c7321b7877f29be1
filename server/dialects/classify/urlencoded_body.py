"""Forms of application/x-www-form-urlencoded, as parts."""

from __future__ import annotations

from server.dialects.classify.parameters import NAMES
from server.http.multipart import Part
from server.http.percent_encoding import percent_decoded
from server.http.urlencoded import form_decoded, split_urlencoded


def parse_urlencoded(body: bytes | bytearray, max_fields: int) -> list[Part]:
    """The fields, as parts of a form without filenames.

    A plus sign stays one, but for a parameter: what stands for an image is base64, and many clients do not escape
    the plus signs in it.

    Raises:
        BodyTooLarge: more fields than `max_fields`.
    """
    return [_field(name, value) for name, value in split_urlencoded(body, max_fields)]


def _field(name: str, value: bytes) -> Part:
    return Part(name, None, memoryview((form_decoded if name in NAMES else percent_decoded)(value)))
