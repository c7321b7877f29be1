"""What a client sent, independent of any protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from models.images.preprocess import Encoded
from runtime.values import Nested, Tensors


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


class JsonText(NamedTuple):
    """Long JSON that this process does not parse: the event loop would stand still for as long as that takes.

    Attributes:
        data: the text; broken JSON counts as bytes. May be a view into the body of a request.
    """

    data: Encoded


class Fields(NamedTuple):
    """Named values of a request, for a handler.

    Attributes:
        values: by name: text, bytes, another JSON value, or a `JsonText`. Bytes may be a view into the body of a
            request.
        headers: names as they were sent, and values; and what else a handler finds among them, as JSON knows it:
            `url_path`, or the type of a part by its name.
        action: "predict", "explain" or "describe".
        on_part: called on the event loop with each part of a response before its end; None: parts are joined.
        request_id: for the handler; "": a new one.
    """

    values: Mapping[str, Any]
    headers: Mapping[str, Any]
    action: str = "predict"
    on_part: Callable[[Part], None] | None = None
    request_id: str = ""


class Part(NamedTuple):
    """A part of a response that a handler sends before its end.

    Attributes:
        body: its bytes.
        status: HTTP status; of the first part it is that of the response.
        headers: of the response, with the first part.
    """

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


# A union that grows with the dialects: each brings its own kind of input.
Input = Image | Arguments | Tensors | Fields
