"""An encoded image as it came."""

from __future__ import annotations

from typing import NamedTuple

from server.http.faults import RequestError


class UploadedImage(NamedTuple):
    """One image of a request.

    Attributes:
        filename: that the client gave; None where it gave none.
        data: the file's bytes; may be a view into the request's body.
        error: why there are none, where that is so; the other images of the request are not hurt by it.
    """

    filename: str | None
    data: bytes | bytearray | memoryview
    error: RequestError | None = None
