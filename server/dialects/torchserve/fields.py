"""The body of a request -> named values, as a handler is to get them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiohttp import web

from models.images.formats import IMAGES, sniff
from runtime.inputs import JsonText
from server.dialects.torchserve.route import Route
from server.http.multipart import parse_multipart
from server.http.part_header import media_type
from server.http.urlencoded import form_decoded, is_urlencoded, split_urlencoded

BODY = "body"
MOST_FIELDS = 1000
_LONG_JSON = 200_000  # bytes, which hold the GIL for some milliseconds
JSON = "application/json"
_MULTIPART = "multipart/form-data"
_URLENCODED = "application/x-www-form-urlencoded"
_BYTES = "application/octet-stream"


class Given(NamedTuple):
    """What a request holds.

    Attributes:
        values: by name, in order; of several parts of a name the last one. Bytes are views into the body.
        types: Content-Type of each; "" for none.
    """

    values: dict[str, Any]
    types: dict[str, str]


def read_fields(body: bytearray, content_type: str, decode: bool, query: Iterable[tuple[str, str]] = ()) -> Given:
    """Takes a body apart.

    Args:
        body: the whole body.
        content_type: the request's header.
        decode: whether JSON and text become values; else they stay bytes, as they do where they are broken. Long
            JSON is a `JsonText`.
        query: parameters of the address that are fields, too.

    Raises:
        BadRequest: a form is cut short, or its parts have no headers.
        BodyTooLarge: it has too many fields.
    """
    values: dict[str, Any] = {name: value.encode() for name, value in query}
    types = dict.fromkeys(values, "")
    kind, parameters = media_type(content_type)
    if kind == _MULTIPART and parameters.get("boundary"):
        for part in parse_multipart(body, content_type, MOST_FIELDS):
            part_type = part.media_type or ("" if part.filename is None else _BYTES)
            values[part.name], types[part.name] = _value(part.data, part_type, decode), part_type
    elif kind == _URLENCODED and is_urlencoded(body) and not sniff(body, IMAGES).supported:
        for name, value in split_urlencoded(body, MOST_FIELDS):
            values[name], types[name] = form_decoded(value), ""
    else:
        values[BODY], types[BODY] = _value(memoryview(body), kind, decode), kind
    return Given(values, types)


def _value(data: memoryview, kind: str, decode: bool) -> Any:
    try:
        if decode and kind == JSON:
            return JsonText(data) if len(data) > _LONG_JSON else json.loads(bytes(data))
        if decode and kind.startswith("text/"):
            return bytes(data).decode()
    except (ValueError, RecursionError):
        pass
    return data


def headers_for_handler(request: web.Request, route: Route, given: Given) -> dict[str, Any]:
    """What a handler finds among the headers: the type of each field, the request's headers, and the path."""
    headers: dict[str, Any] = {name: {"content-type": kind} for name, kind in given.types.items()}
    if route.rest is not None:
        headers["explain"] = str(route.explains)
    for name, value in request.raw_headers:
        headers[name.decode("latin-1")] = value.decode("utf-8", "replace")
    if "Content-Length" not in request.headers and "Transfer-Encoding" not in request.headers:
        headers["content-length"] = "0"
    if route.rest is not None:
        headers["url_path"] = route.rest
    return headers
