"""What a client sent, independent of any protocol."""

from __future__ import annotations

from typing import NamedTuple

from models.images.preprocess import Encoded
from runtime.values import Nested


class Image(NamedTuple):
    """One encoded image.

    Attributes:
        data: the file's bytes; may be a view into the body of a request.
    """

    data: Encoded


class Arguments(NamedTuple):
    """Positional arguments of a call.

    Attributes:
        values: in order; an image becomes the tensor that the model's preprocessing makes of it.
    """

    values: tuple[Nested | Image, ...]


# A union that grows with the dialects: each brings its own kind of input.
Input = Image | Arguments
