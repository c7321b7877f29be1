"""application/x-www-form-urlencoded bodies (https://url.spec.whatwg.org/#application/x-www-form-urlencoded)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.http.faults import BodyTooLarge
from server.http.percent_encoding import percent_decoded

_FIRST_FIELD = re.compile(rb"[\w.%\[\]-]{1,64}=")
_PAIR = b"&"


def is_urlencoded(body: bytes | bytearray) -> bool:
    """Whether a body begins with a field: curl calls every body urlencoded that it is not told otherwise of."""
    return _FIRST_FIELD.match(body) is not None


def split_urlencoded(body: bytes | bytearray, max_fields: int) -> Iterator[tuple[str, bytes]]:
    """The name of each field, and its value as it was sent: `form_decoded` gives its bytes.

    Raises:
        BodyTooLarge: more fields than `max_fields`.
    """
    if body.count(_PAIR) >= max_fields:
        raise BodyTooLarge(f"The form has more than {max_fields} fields.", max_fields, None)
    for pair in filter(None, bytes(body).split(_PAIR)):
        name, _, value = pair.partition(b"=")
        yield form_decoded(name).decode("utf-8", "replace"), value


def form_decoded(text: bytes) -> bytes:
    """The bytes that a name or a value stands for."""
    return percent_decoded(text.replace(b"+", b" "))
