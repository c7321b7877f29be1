"""What a handler returns for a request -> bytes of a response."""

from __future__ import annotations

import io
import json
import sys
from typing import Any


class UnsupportedType(Exception):
    """It is of a type that has no bytes."""


def body_of(value: Any) -> bytes:
    """The body of a response.

    Text is UTF-8, bytes are as they are, a tensor is a file of torch.save, and all else is JSON.

    Raises:
        UnsupportedType: it is none of these.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        file = io.BytesIO()
        torch.save(value, file)
        return file.getvalue()
    try:
        return json.dumps(value, indent=2).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedType(f"a response cannot be made of {type(value).__name__}: {error}") from None
