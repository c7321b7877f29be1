"""`index_to_name.json`: the names of classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.archives.limits import ArchiveLimits
from models.errors import ArchiveError

FILE = "index_to_name.json"
_WRAPPER = "object_type_names"


def read_class_names(folder: Path) -> Mapping[int, str]:
    """Name by class number; {} where the archive has no such file.

    The file has an object from class number to name, or to a list whose last item is the name; or from name to
    class number; or a list of names, also as its member "object_type_names". It need not name every class.

    Args:
        folder: of the unpacked archive.

    Raises:
        ArchiveError: the file is too long, or holds anything else; names the file.
    """
    file = folder / FILE
    try:
        with file.open("rb") as stream:
            content = stream.read(ArchiveLimits.text + 1)
    except FileNotFoundError:
        return {}
    except OSError:
        raise ArchiveError(f"{file}: cannot be read") from None
    if len(content) > ArchiveLimits.text:
        raise ArchiveError(f"{file}: longer than {ArchiveLimits.text:,} bytes")
    try:
        return _names(json.loads(content))
    except (ValueError, RecursionError):
        forms = '{"0": "cat"} or {"0": ["n02123045", "cat"]}'
        raise ArchiveError(f"{file}: expected names of classes, as {forms}") from None


def labels_of(names: Mapping[int, str], count: int) -> tuple[str, ...]:
    """The label of each class; of one without a name its number."""
    return tuple(names.get(number, str(number)) for number in range(count))


def _names(document: Any) -> Mapping[int, str]:
    """Raises ValueError where a document is in none of the forms."""
    if isinstance(document, dict) and isinstance(document.get(_WRAPPER), list):
        document = document[_WRAPPER]
    if isinstance(document, list):
        return {number: _name(entry) for number, entry in enumerate(document)}
    if not isinstance(document, dict):
        raise ValueError
    if document and all(type(value) is int and value >= 0 for value in document.values()):
        return {number: _name(name) for name, number in document.items()}
    return {_number(key): _name(entry) for key, entry in document.items()}


def _number(key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) < 10):
        raise ValueError
    return int(key)


def _name(entry: Any) -> str:
    name = entry[-1] if isinstance(entry, list) and entry else entry
    if not isinstance(name, str):
        raise ValueError
    name.encode()  # half of a character: no JSON can hold it
    return name
