"""The YAML file of an archive: plain values only, and not many of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import yaml

from models.errors import ArchiveError

_LONGEST = 256 << 10  # bytes: a second of PyYAML
_OF_TAGS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # `!!bool maybe` is a KeyError
_MOST_VALUES = 100_000  # each counted as often as it is referred to


def read_yaml(content: bytes, name: str) -> Mapping[str, Any]:
    """The mapping in a YAML document; {} of an empty one. Its values are those of JSON; dates become text.

    Args:
        content: of the file.
        name: of it, for the message.

    Raises:
        ArchiveError: it is too long, no YAML, no mapping, or has other values; the message begins behind the
            archive's name.
    """
    if len(content) > _LONGEST:
        raise ArchiveError(f"{name} is longer than {_LONGEST:,} bytes")
    try:
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        is_small = node is None or _count(node, {}) <= _MOST_VALUES
        document = _plain(loader.construct_document(node)) if node and is_small else None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ArchiveError(f"{name} is not valid YAML{line}") from None
    except (yaml.YAMLError, *_OF_TAGS, RecursionError):
        raise ArchiveError(f"{name} is not valid YAML") from None
    if not is_small:
        raise ArchiveError(f"{name} has more than {_MOST_VALUES:,} values")
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ArchiveError(f"{name} must be a mapping")
    return document


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values in a tree, those behind an alias each time; raises RecursionError where one contains itself."""
    if id(node) not in known:
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for each in inner for part in (each if isinstance(each, tuple) else (each,))]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def _plain(value: Any) -> Any:
    """A value as JSON has it, which the processes of a handler are sent. Raises TypeError for what has no form."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"no value of JSON: {type(value).__name__}")
