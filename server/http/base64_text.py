"""Base64 as mail programs, phones and browsers write it (RFC 4648, RFC 2045, data URLs of RFC 2397) -> bytes."""

from __future__ import annotations

import binascii
import re

from models.images.formats import sniff
from server.http.percent_encoding import percent_decoded

_SPACE = b" \t\r\n\v\f"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_FOREIGN = re.compile(r"[^A-Za-z0-9+/\-_ \t\r\n\v\f]")
_BEGINNING = 200  # characters that tell a file's kind
_FEW = 24  # characters: fewer may be a word


class BrokenBase64(Exception):
    """Text that is no base64. The message is what a sentence about it goes on with: 'has "%" at character 3'."""


def decode_base64(text: str) -> bytes:
    """The bytes that are written as base64, or as a data URL.

    Args:
        text: in the standard or the URL-safe alphabet, with or without padding; white space is ignored.

    Raises:
        BrokenBase64: another character, counted from 1, or a length that cannot be.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)  # what most clients send
    except ValueError:
        pass
    if not is_data_url(text[:_BEGINNING]):
        return _lenient(text, text)
    head, comma, payload = text.partition(",")
    if not comma:
        raise BrokenBase64("is a data URL without a comma; it must look like data:image/jpeg;base64,…")
    if not head.rstrip().lower().endswith(";base64"):
        return percent_decoded(payload.encode("utf-8", "replace"))
    if "%" in payload:
        payload = percent_decoded(payload.encode("utf-8", "replace")).decode("utf-8", "replace")
    return _lenient(payload, f"{head},{payload}")


def is_data_url(text: str) -> bool:
    """Whether a text begins like a data URL."""
    return text.lstrip()[:5].lower() == "data:"


def holds_file(text: bytes | bytearray | memoryview) -> bool:
    """Whether a text is a data URL, or the base64 of a file of a known kind, by its beginning."""
    beginning = bytes(text[:_BEGINNING])
    if is_data_url(beginning.decode("latin-1")):
        return True
    clean = beginning.translate(_TO_STANDARD, _SPACE)[:_FEW]
    try:
        return len(clean) == _FEW and sniff(binascii.a2b_base64(clean, strict_mode=True)).name is not None
    except binascii.Error:
        return False


def _lenient(payload: str, text: str) -> bytes:
    try:
        clean = payload.encode("ascii").translate(_TO_STANDARD, _SPACE).rstrip(b"=")
        return binascii.a2b_base64(clean + b"=" * (-len(clean) % 4), strict_mode=True)
    except ValueError:
        raise BrokenBase64(_fault(payload, len(text) - len(payload))) from None


def _fault(payload: str, before: int) -> str:
    core = payload.rstrip("= \t\r\n\v\f")
    found = _FOREIGN.search(core)
    if found is None:
        letters = len(core) - sum(map(core.count, " \t\r\n\v\f"))
        return f"has {letters:,} characters without white space and padding, one too many or cut short"
    position = before + found.start() + 1
    if found[0] == "=":
        return f'goes on after the "=" at character {position:,}, which ends base64'
    shown = f'"{found[0]}"' if found[0].isprintable() else f"U+{ord(found[0]):04X}"
    return f"has {shown} at character {position:,}, which is not in the alphabet of base64"
