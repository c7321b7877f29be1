"""application/x-www-form-urlencoded bodies (https://url.spec.whatwg.org/#application/x-www-form-urlencoded)."""

from __future__ import annotations

import re

from server.dialects.classify.parameters import NAMES
from server.http.faults import BodyTooLarge
from server.http.multipart import Part
from server.http.percent_encoding import percent_decoded

_FIRST_FIELD = re.compile(rb"[\w.%\[\]-]{1,64}=")
_PAIR = b"&"


def is_urlencoded(body: bytes | bytearray) -> bool:
    """Whether a body begins with a field: curl calls every body urlencoded that it is not told otherwise of."""
    return _FIRST_FIELD.match(body) is not None


def parse_urlencoded(body: bytes | bytearray, max_fields: int) -> list[Part]:
    """The fields, as parts of a form without filenames.

    A plus sign stays one, but for a parameter: what stands for an image is base64, and many clients do not escape
    the plus signs in it.

    Raises:
        BodyTooLarge: more fields than `max_fields`.
    """
    if body.count(_PAIR) >= max_fields:
        raise BodyTooLarge(f"The form has more than {max_fields} fields.", max_fields, None)
    return [_field(*pair.partition(b"=")) for pair in bytes(body).split(_PAIR) if pair]


def _field(name: bytes, _: bytes, value: bytes) -> Part:
    title = percent_decoded(name.replace(b"+", b" ")).decode("utf-8", "replace")
    value = value.replace(b"+", b" ") if title in NAMES else value
    return Part(title, None, memoryview(percent_decoded(value)))
