"""multipart/form-data (RFC 7578) in memory: a scan for what clients really send, a parser for the rest."""

from __future__ import annotations

import re
from typing import NamedTuple

from multipart import MultipartError, ParserLimitReached, PushMultipartParser, parse_options_header

from server.errors import BadRequest, BodyTooLarge


class Part(NamedTuple):
    """One part of a form. `filename` is None where the part has none; `data` is a view into the body."""

    name: str
    filename: str | None
    data: memoryview


# The one header line that every client sends, in the spelling that nearly all of them use. Anything else
# (escapes, filename*, other orders, folded lines) goes to the parser.
_DISPOSITION = re.compile(
    rb'Content-Disposition: form-data; name="([^"\\\r\n%]*)"(?:; filename="([^"\\\r\n%]*)")?', re.IGNORECASE
)
_MAX_HEADER = 4096
_OTHER_HEADER = re.compile(rb"Content-(?:Type|Length): [^\r\n]*", re.IGNORECASE)
# bytes.find and slices hold the interpreter's lock: longer bodies are worked through in pieces of this size.
_PIECE = 1 << 20


def parse_multipart(body: bytes | bytearray, content_type: str, max_parts: int) -> list[Part]:
    """Splits a form into its parts.

    Args:
        body: the whole body.
        content_type: the request's header, with the boundary.
        max_parts: the most that are taken.

    Raises:
        BodyTooLarge: more parts.
        BadRequest: no boundary is named, or the body is not a form with that boundary.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not 1 <= len(boundary) <= 200 or not boundary.isascii():
        raise BadRequest("The Content-Type names no usable multipart boundary.")
    parts = _scan(body, b"--" + boundary.encode(), max_parts)
    return _parse(body, boundary, max_parts) if parts is None else parts


def _scan(body: bytes | bytearray, delimiter: bytes, max_parts: int) -> list[Part] | None:
    """Splits at the delimiters with `bytes.find`; None when anything is out of the ordinary."""
    view = memoryview(body)
    parts: list[Part] = []
    if not body.startswith(delimiter + b"\r\n"):
        return None
    line_delimiter = b"\r\n" + delimiter
    start = len(delimiter) + 2
    while len(parts) < max_parts:
        blank = body.find(b"\r\n\r\n", start, start + _MAX_HEADER)
        end = _find(body, line_delimiter, blank + 2)
        if blank < 0 or end < blank + 4:
            return None
        header = _header(bytes(body[start:blank]))
        if header is None:
            return None
        parts.append(Part(*header, view[blank + 4 : end]))
        after = end + len(line_delimiter)
        if body.startswith(b"--", after):
            # RFC 2046 allows an epilogue; nobody sends one.
            return parts if body[after + 2 :] in (b"", b"\r\n") else None
        if not body.startswith(b"\r\n", after):
            return None
        start = after + 2
    raise _too_many(max_parts)


def _find(body: bytes | bytearray, wanted: bytes, start: int) -> int:
    for begin in range(start, len(body), _PIECE):
        found = body.find(wanted, begin, begin + _PIECE + len(wanted) - 1)
        if found >= 0:
            return found
    return -1


def _too_many(max_parts: int) -> BodyTooLarge:
    return BodyTooLarge(f"The form has more than {max_parts} parts.", max_parts, None)


def _header(header: bytes) -> tuple[str, str | None] | None:
    disposition, *others = header.split(b"\r\n")
    match = _DISPOSITION.fullmatch(disposition)
    if match is None or not all(_OTHER_HEADER.fullmatch(line) for line in others):
        return None
    name, filename = match.groups()
    try:
        return name.decode(), None if filename is None else filename.decode()
    except UnicodeDecodeError:
        return None


def _parse(body: bytes | bytearray, boundary: str, max_parts: int) -> list[Part]:
    parts: list[Part] = []
    try:
        with PushMultipartParser(boundary, max_segment_count=max_parts) as parser:
            data, segment = bytearray(), None
            for begin in range(0, len(body), _PIECE):
                for event in parser.parse(body[begin : begin + _PIECE]):
                    if isinstance(event, bytes | bytearray):
                        data += event
                    elif event is not None:
                        data, segment = bytearray(), event
                    elif segment is not None:
                        parts.append(Part(segment.name, segment.filename, memoryview(data)))
    except ParserLimitReached:
        if len(parts) < max_parts:  # it was another limit: the headers of a part
            raise _no_form() from None
        raise _too_many(max_parts) from None
    except (MultipartError, ValueError, AssertionError):
        raise _no_form() from None
    return parts


def _no_form() -> BadRequest:
    return BadRequest("The body is not the multipart form that its Content-Type announces.")
