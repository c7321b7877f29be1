"""What a client sent, independent of any protocol."""

from __future__ import annotations

from dataclasses import dataclass

from models.images.preprocess import Encoded


@dataclass(frozen=True, slots=True)
class Image:
    """One encoded image.

    Attributes:
        data: the file's bytes; may be a view into the body of a request.
    """

    data: Encoded


# A union that grows with the dialects: each brings its own kind of input.
Input = Image
