"""Files of properties, as Java reads and writes them (java.util.Properties)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_BREAK = re.compile(r"\r\n|\r|\n")
_SPACE = " \t\f"
_KEY = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_CODES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
_WRITTEN = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}


def read_properties(text: str) -> dict[str, str]:
    """The values by key; of a key that is there twice the last."""
    found: dict[str, str] = {}
    for line in _logical_lines(text):
        match = _KEY.fullmatch(line)
        assert match is not None
        found[_unescaped(match[1])] = _unescaped(match[2]).rstrip(_SPACE)
    return found


def write_properties(values: Mapping[str, str], comment: str = "") -> str:
    """The text of a file from which `read_properties` reads the values."""
    lines = [f"#{comment}"] if comment else []
    lines += [f"{_escaped(key, ' =:#!')}={_escaped(value)}" for key, value in values.items()]
    return "".join(f"{line}\n" for line in lines)


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments; one that ends with a backslash goes on in the next."""
    begun = ""
    for natural in _BREAK.split(text):
        line = natural.lstrip(_SPACE)
        if not begun and (not line or line[0] in "#!"):
            continue
        line = begun + line
        if (len(line) - len(line.rstrip("\\"))) % 2:
            begun = line[:-1]
        else:
            begun = ""
            yield line
    if begun:
        yield begun


def _unescaped(text: str) -> str:
    units = _ESCAPE.sub(lambda match: _character(match[1]), text)  # of UTF-16: some characters have two
    return units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(code: str) -> str:
    return chr(int(code[1:], 16)) if len(code) == 5 else _CODES.get(code, code)


def _escaped(text: str, special: str = "") -> str:
    """Leading spaces and what a reader would take for something else, behind a backslash."""
    body = "".join("\\" + each if each in special else _WRITTEN.get(each, _as_code(each)) for each in text)
    return "\\" + body if body[:1] in (" ", "#", "!") else body


def _as_code(character: str) -> str:
    """A printable character of ASCII as it is; the file's encoding is ISO 8859-1 for Java."""
    if " " <= character <= "~":
        return character
    data = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[at : at + 2].hex().upper()}" for at in range(0, len(data), 2))
