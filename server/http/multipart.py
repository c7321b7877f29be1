"""Multipart bodies (RFC 2046, RFC 7578) in memory: a scan for what most clients send, a lenient one for others."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from server.http.faults import BadRequest, BodyTooLarge
from server.http.part_header import MalformedHeader, PartHeader, media_type, read_part_header


class Part(NamedTuple):
    """One part of a form.

    Attributes:
        name: of the field; "" where the part has none.
        filename: None where the part has none.
        data: a view into the body.
        media_type: the part's own Content-Type in lower case, without parameters; "" where it has none.
        encoding: the part's Content-Transfer-Encoding; "" where it has none.
    """

    name: str
    filename: str | None
    data: memoryview
    media_type: str = ""
    encoding: str = ""


# The one header line that every client sends, in the spelling that nearly all of them use. Anything else
# (escapes, filename*, other orders, folded lines) goes to `_parse`.
_DISPOSITION = re.compile(
    rb'Content-Disposition: form-data; name="([^"\\\r\n%]*)"(?:; filename="([^"\\\r\n%]*)")?', re.IGNORECASE
)
_MAX_HEADER = 4096
_OTHER_HEADER = re.compile(rb"Content-(?:Length|Type): ([^\r\n]*)", re.IGNORECASE)
_LINE_END, _EMPTY_LINE = re.compile(rb"\r?\n"), re.compile(rb"\r?\n\r?\n")
_REST_OF_LINE = re.compile(rb"[ \t]*(\r?\n|\Z)")
_LF = 0x0A
_MAX_STRAYS = 1000  # places where the boundary occurs and is no line of its own
# bytes.find and slices hold the interpreter's lock: longer bodies are worked through in pieces of this size.
_PIECE = 1 << 20
_KINDS = ("multipart/form-data", "multipart/mixed", "multipart/related")
_LET_THE_CLIENT = "Leave the Content-Type to the client library: it knows the boundary that it writes."


def parse_multipart(body: bytes | bytearray, content_type: str, max_parts: int) -> list[Part]:
    """Splits a form into its parts.

    Args:
        body: the whole body.
        content_type: the request's header, with the boundary.
        max_parts: the most that are taken.

    Raises:
        BodyTooLarge: more parts.
        BadRequest: no boundary is named, or the body is not a form with that boundary; it says what is wrong.
    """
    kind, options = media_type(content_type)
    boundary = options.get("boundary", "")
    if kind not in _KINDS:
        raise BadRequest(f"The Content-Type is {kind[:80]}; multipart/form-data is needed.")
    if not boundary:
        raise BadRequest(f"The Content-Type {kind} names no boundary.", _LET_THE_CLIENT)
    if len(boundary) > 200 or not boundary.isascii() or not boundary.isprintable():
        raise BadRequest("The boundary in the Content-Type must be at most 200 ASCII characters.", _LET_THE_CLIENT)
    parts = _scan(body, b"--" + boundary.encode(), max_parts)
    return _parse(body, boundary, max_parts, kind == "multipart/form-data") if parts is None else parts


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
        name, filename, kind = header
        parts.append(Part(name, filename, view[blank + 4 : end], kind))
        after = end + len(line_delimiter)
        if body.startswith(b"--", after):
            # RFC 2046 allows an epilogue; no client sends one.
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


def _header(header: bytes) -> tuple[str, str | None, str] | None:
    disposition, *others = header.split(b"\r\n")
    match = _DISPOSITION.fullmatch(disposition)
    if match is None:
        return None
    name, filename = match.groups()
    kind = b""
    for line in others:
        other = _OTHER_HEADER.fullmatch(line)
        if other is None:
            return None
        if line[8] in b"Tt":
            kind = other[1]
    if filename is not None and filename.startswith(b"=?"):
        return None
    try:
        media = kind.partition(b";")[0].strip().lower().decode()
        return name.decode(), None if filename is None else filename.decode(), media
    except UnicodeDecodeError:
        return None


class _Border(NamedTuple):
    """A line with the boundary: where the line end before it begins, and where the line after it begins."""

    start: int
    end: int
    last: bool


def _parse(body: bytes | bytearray, boundary: str, max_parts: int, is_form: bool = True) -> list[Part]:
    """Splits at every line that is the boundary, whether lines end with CR LF or with LF."""
    borders: list[_Border] = []
    for border in _borders(body, b"--" + boundary.encode()):
        borders.append(border)
        if border.last:
            break
        if len(borders) > max_parts:
            raise _too_many(max_parts)
    if not borders:
        _refuse_without_borders(body)
    if not borders[-1].last:
        raise BadRequest(
            "The form is cut short: its last line, the boundary with -- behind it, is missing.",
            "Send the whole body; a client that sets Content-Length by hand may have set it too low.",
        )
    pairs = itertools.pairwise(borders)
    return [
        _part(body, number, begin.end, end.start, is_form) for number, (begin, end) in enumerate(pairs, start=1)
    ]


def _borders(body: bytes | bytearray, delimiter: bytes) -> Iterator[_Border]:
    position, line_end, strays = _find(body, delimiter, 0), b"", 0
    while position >= 0:
        after = position + len(delimiter)
        last = body.startswith(b"--", after)
        ending = _REST_OF_LINE.match(body, after + 2 * last)
        if (position == 0 or body[position - 1] == _LF) and (ending or last):
            line_end = line_end or (ending[1] if ending else b"\r\n")
            before = len(line_end) if body.endswith(line_end, 0, position) else min(1, position)
            yield _Border(position - before, ending.end() if ending else after + 2, last)
        else:
            strays += 1
            if strays > _MAX_STRAYS:
                raise BadRequest("The boundary of the form occurs again and again within its parts.")
        position = _find(body, delimiter, after)


def _refuse_without_borders(body: bytes | bytearray) -> NoReturn:
    raise BadRequest(
        "The form begins with another boundary than its Content-Type names."
        if body.startswith(b"--")
        else "The Content-Type announces a form, but no line of the body is its boundary.",
        _LET_THE_CLIENT,
    )


def _part(body: bytes | bytearray, number: int, start: int, end: int, is_form: bool) -> Part:
    header, data = _header_and_data(body, number, start, max(start, end))
    try:
        read = read_part_header(header)
    except MalformedHeader:
        raise BadRequest(f"Part {number} of the form has a header line without a colon.") from None
    _check_disposition(read, number, is_form)
    data_view = memoryview(body)[data : max(data, end)]
    return Part(read.name, read.filename, data_view, read.media_type, read.encoding)


def _header_and_data(body: bytes | bytearray, number: int, start: int, end: int) -> tuple[bytes, int]:
    """The lines of a part's headers, and where its content begins."""
    bare = _LINE_END.match(body, start)
    if bare:
        return b"", bare.end()
    blank = _EMPTY_LINE.search(body, start, min(end + 2, start + _MAX_HEADER + 4))
    if blank is None:
        within = f" within {_MAX_HEADER:,} bytes" if end - start > _MAX_HEADER else ""
        raise BadRequest(
            f"Part {number} of the form has no empty line{within} between its headers and its content."
        )
    return bytes(body[start : blank.start()]), blank.end()


def _check_disposition(header: PartHeader, number: int, is_form: bool) -> None:
    if is_form and not header.disposed:
        raise BadRequest(
            f"Part {number} of the form has no Content-Disposition.",
            'Each part of multipart/form-data begins with Content-Disposition: form-data; name="image".',
        )
