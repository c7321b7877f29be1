"""Text files that people write by hand, in the encodings that editors write."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from models.errors import BundleError

# Byte order marks, and what they announce. UTF-32's little-endian mark begins like UTF-16's, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(file: Path, what: str) -> str:
    """Reads UTF-8, or what a byte order mark announces; the mark is no part of the text.

    Args:
        file: to be read.
        what: names its kind in the error, e.g. "label file".

    Raises:
        BundleError: it cannot be read, or is not text.
    """
    try:
        data = file.read_bytes()
    except (OSError, ValueError):  # a NUL in the name
        raise BundleError(f"{file}: no readable {what}") from None
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    if not mark and b"\0" in data:
        raise BundleError(f"{file}: not text, or UTF-16 without a byte order mark; save the {what} as UTF-8")
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{file}: not {encoding.upper()} text (byte {len(mark) + error.start}); save the {what} as UTF-8"
        ) from None


def read_json(file: Path, what: str) -> Any:
    """Reads a JSON document.

    Raises:
        BundleError: it cannot be read, or is not JSON; with the line of the first fault.
    """
    text = read_text(file, what)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BundleError(f"{file}: not valid JSON, line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError):
        raise BundleError(f"{file}: not valid JSON") from None
