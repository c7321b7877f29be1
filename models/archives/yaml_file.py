"""The YAML file of an archive: plain values only, and not many of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from models.errors import ArchiveError

_LONGEST = 256 << 10  # bytes: a second of PyYAML
_MOST_VALUES = 100_000  # each counted as often as it is referred to


def read_yaml(content: bytes, name: str) -> Mapping[str, Any]:
    """The mapping in a YAML document; {} of an empty one.

    Args:
        content: of the file.
        name: of it, for the message.

    Raises:
        ArchiveError: it is too long, no YAML, or no mapping; the message begins behind the archive's name.
    """
    if len(content) > _LONGEST:
        raise ArchiveError(f"{name} is longer than {_LONGEST:,} bytes")
    try:
        document = yaml.safe_load(content)
        is_small = _count(document, {}) <= _MOST_VALUES
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ArchiveError(f"{name} is not valid YAML{line}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise ArchiveError(f"{name} is not valid YAML") from None
    if not is_small:
        raise ArchiveError(f"{name} has more than {_MOST_VALUES:,} values")
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ArchiveError(f"{name} must be a mapping")
    return document


def _count(value: Any, known: dict[int, int]) -> int:
    """Values in a tree, those behind an alias each time; raises RecursionError where one contains itself."""
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) not in known:
        inner = [*value.values(), *value] if isinstance(value, dict) else list(value)
        known[id(value)] = 1 + sum(_count(each, known) for each in inner)
    return known[id(value)]
