"""Percent-encoding (RFC 3986, 2.1), decoded in pieces."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

_PIECE = 1 << 16  # bytes; `unquote_to_bytes` takes some 200 bytes for every escape
_ESCAPE = 3


def percent_decoded(text: bytes) -> bytes:
    """The bytes that a text of escapes and other bytes stands for; what is no escape stays as it is."""
    if b"%" not in text:
        return text
    pieces, begin = [], 0
    while begin < len(text):
        end = begin + _PIECE
        if end < len(text) and (cut := text.rfind(b"%", end - _ESCAPE + 1, end)) >= 0:
            end = cut  # an escape is not cut in two
        pieces.append(unquote_to_bytes(text[begin:end]))
        begin = end
    return b"".join(pieces)
