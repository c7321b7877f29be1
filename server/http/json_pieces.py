"""JSON whose long lists of numbers are parsed in pieces: orjson holds the GIL, others run between two pieces."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import orjson

_LONG = _PIECE = 50_000  # bytes: a few thousand numbers, a third of a millisecond


def loads_in_pieces(text: bytes | bytearray) -> Any:
    """What `orjson.loads` returns, in more time of this thread and less of the others'.

    Raises:
        orjson.JSONDecodeError: as `orjson.loads` does.
    """
    lists: dict[str, list[Any]] = {}
    key, parts, copied = secrets.token_hex(), [], 0  # random: no body can contain the placeholder of a list
    try:
        for begin, end in _long_lists(text):
            name = f"{key}{len(lists)}"
            lists[name] = _numbers(text, begin, end)
            parts += [text[copied:begin], b'"', name.encode(), b'"']
            copied = end
        return _filled(orjson.loads(b"".join([*parts, text[copied:]])), lists)
    except (orjson.JSONDecodeError, RecursionError):
        # Says where it goes wrong; or it is nested as deeply as orjson allows, or has a list in a text.
        return orjson.loads(text)


def _long_lists(text: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Where lists begin and end that are long and hold neither text nor lists nor objects.

    One that stands in a text is found too; what is put in its place then makes the JSON invalid.
    """
    begin, close = text.find(b"["), -1
    while begin >= 0:
        if close < begin and (close := text.find(b"]", begin)) < 0:
            return
        place = begin + 1
        if close - begin >= _LONG and all(text.find(each, place, close) < 0 for each in (b"[", b'"', b"{")):
            yield begin, close + 1
            place = close + 1
        begin = text.find(b"[", place)


def _numbers(text: bytes | bytearray, begin: int, end: int) -> list[Any]:
    """The entries of a list. Raises JSONDecodeError."""
    values: list[Any] = []
    begin, end = begin + 1, end - 1
    while begin <= end:
        comma = text.find(b",", begin + _PIECE, end)
        cut = end if comma < 0 else comma
        entries = orjson.loads(b"[" + text[begin:cut] + b"]")
        if not entries:  # nothing between two commas
            raise orjson.JSONDecodeError("no value", "", 0)
        values += entries
        begin = cut + 1
    return values


def _filled(document: Any, lists: dict[str, list[Any]]) -> Any:
    if isinstance(document, str):
        return lists.get(document, document)
    if isinstance(document, list):
        return [_filled(each, lists) for each in document]
    if isinstance(document, dict):
        return {key: _filled(each, lists) for key, each in document.items()}
    return document
