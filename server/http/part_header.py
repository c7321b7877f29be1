"""The headers of one part of a form (RFC 7578), as clients spell them (RFC 2231, RFC 5987, RFC 2047, HTML)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from email.errors import MessageError
from email.header import decode_header, make_header
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

_FOLD = re.compile(rb"\r?\n[ \t]+")
_LINE_END = re.compile(rb"\r?\n")
_PARAMETER = re.compile(r';\s*([^\s;=]+)\s*=\s*("(?:\\.|[^"\\])*"?|[^;]*)')
# What browsers escape: https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
_ESCAPES = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))


class MalformedHeader(Exception):
    """A line of a part's headers that is none."""


class PartHeader(NamedTuple):
    """What the headers of a part say.

    Attributes:
        disposed: there is a Content-Disposition.
        name: of the field; "" where there is none.
        filename: None where there is none.
        media_type: in lower case, without parameters; "" where there is none.
        encoding: the Content-Transfer-Encoding in lower case; "" where there is none.
    """

    disposed: bool
    name: str
    filename: str | None
    media_type: str
    encoding: str


def read_part_header(block: bytes) -> PartHeader:
    """Reads the lines above a part's content; bytes that are not UTF-8 are replaced.

    Raises:
        MalformedHeader: a line has no colon.
    """
    headers: dict[str, str] = {}
    for line in filter(None, _LINE_END.split(_FOLD.sub(b" ", block))):
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if not colon:
            raise MalformedHeader
        headers.setdefault(name.strip().lower(), value.strip())
    kind, parameters = media_type(headers.get("content-type", ""))
    _, disposition = media_type(headers.get("content-disposition", ""))
    filename = _value(disposition, "filename")
    return PartHeader(
        "content-disposition" in headers,
        _value(disposition, "name") or "",
        _value(parameters, "name") if filename is None else _without_folder(filename),
        kind,
        headers.get("content-transfer-encoding", "").lower(),
    )


def media_type(header: str) -> tuple[str, dict[str, str]]:
    """The value of a Content-Type or Content-Disposition in lower case, and its parameters."""
    parameters: dict[str, str] = {}
    for name, value in _PARAMETER.findall(header):
        parameters.setdefault(name.lower(), _unquoted(value.strip()))
    return header.partition(";")[0].strip().lower(), parameters


def _unquoted(value: str) -> str:
    if value[:1] != '"':
        return value
    value = value[1:-1] if len(value) > 1 and value.endswith('"') else value[1:]
    return value.replace("\\\\", "\\").replace('\\"', '"') if '\\"' in value else value


def _value(parameters: Mapping[str, str], name: str) -> str | None:
    """A parameter, however it is written: name*=, name*0=, or name= with what browsers or mailers escape."""
    extended = _extended(parameters, name)
    if extended is not None:
        return extended
    plain = parameters.get(name)
    if plain is None:
        return None
    if plain.startswith("=?") and plain.endswith("?="):
        return _words(plain)
    for escaped, character in _ESCAPES:
        plain = plain.replace(escaped, character)
    return plain


def _extended(parameters: Mapping[str, str], name: str) -> str | None:
    charset, data, found = "utf-8", b"", False
    for number in itertools.count():
        section = f"{name}*{number}"
        encoded = parameters.get(f"{section}*", parameters.get(f"{name}*") if number == 0 else None)
        if encoded is not None:
            if number == 0 and encoded.count("'") >= 2:
                charset, _, encoded = encoded.split("'", 2)
            data += unquote_to_bytes(encoded)
        elif section in parameters:
            data += parameters[section].encode()
        else:
            return _decoded(data, charset) if found else None
        found = True
    raise AssertionError("a header ends")


def _decoded(data: bytes, charset: str) -> str:
    try:
        text = data.decode(charset, "replace")
    except (LookupError, ValueError):  # no such charset
        text = data.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode()  # UTF-7 and others can spell lone surrogates


def _words(text: str) -> str:
    try:
        return str(make_header(decode_header(text))).encode("utf-8", "replace").decode()
    except (MessageError, LookupError, ValueError):
        return text


def _without_folder(filename: str) -> str:
    """Old browsers send the whole path of Windows."""
    return filename.rpartition("\\")[2] if filename[1:3] == ":\\" or filename.startswith("\\\\") else filename
