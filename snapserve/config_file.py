"""A configuration file: TOML whose keys are the names of options."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from snapserve.options import Option, Options, options_of


def read_config_file(file: Path, groups: Mapping[str, type[Options]], error: type[Exception]) -> dict[str, Any]:
    """Reads and checks the values in a file.

    Args:
        file: its keys are options, with underscores or dashes, at the top level or in the table of their group.
        groups: classes of options by the names of their tables.
        error: raised for whatever is wrong, with one line that begins with the file.

    Returns:
        Values by the names of the fields, as `snapserve.options.build` takes them.
    """
    known = {
        spelling: each
        for group, kind in groups.items()
        for each in options_of(kind)
        for spelling in (each.key, f"{group}.{each.key}")
    }
    values: dict[str, Any] = {}
    for key, value in _entries(_load(file, error), groups):
        where = f"{file}: {key}"
        each = known.get(key.replace("-", "_"))
        if each is None:
            raise error(f"{where}: unknown key, {_hint(key, groups)}")
        if each.name in values:
            raise error(f"{where}: {each.key} is there twice")
        if not _has_type(each, value):
            raise error(f"{where} {json.dumps(value, default=str, ensure_ascii=False)}: must be {each.expected}")
        values[each.name] = each.read(value, where)
    return values


def _load(file: Path, error: type[Exception]) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as failed:
        raise error(f"{file}: {(failed.strerror or 'cannot be read').lower()}") from None
    except ValueError as failed:  # with line and column
        raise error(f"{file}: not valid TOML: {failed}") from None


def _entries(document: Mapping[str, Any], groups: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if key in groups and isinstance(value, dict):
            yield from ((f"{key}.{inner}", entry) for inner, entry in value.items())
        else:
            yield key, value


def _has_type(each: Option, value: Any) -> bool:
    if each.kind is tuple:
        return isinstance(value, list) and all(isinstance(word, str) for word in value)
    if each.kind is float:
        return type(value) in (int, float)
    if each.kind is Path:
        return isinstance(value, str)
    return type(value) is each.kind or (each.auto and value == "auto")


def _hint(key: str, groups: Mapping[str, type[Options]]) -> str:
    """The nearest key or table, in the right table."""
    table, _, name = key.replace("-", "_").rpartition(".")
    names = {group: f"[{group}]" for group in groups if not table and group != name}
    for group, kind in groups.items():
        names |= {each.key: f"{group}.{each.key}" if table else each.key for each in options_of(kind)}
    near = get_close_matches(name, names, 1)
    return f"did you mean {names[near[0]]}?" if near else "the keys are the options that --help lists"
