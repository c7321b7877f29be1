"""What a client sent, independent of any protocol."""

from __future__ import annotations

from typing import NamedTuple

from models.images.preprocess import Encoded


class Image(NamedTuple):
    """One encoded image.

    Attributes:
        data: the file's bytes; may be a view into the body of a request.
    """

    data: Encoded


# A union that grows with the dialects: each brings its own kind of input.
Input = Image
