"""JSON objects as flat dataclasses, read strictly."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import Any, TypeVar, get_type_hints

_Kind = TypeVar("_Kind")
_WORDS = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


class RecordError(ValueError):
    """JSON that is not what it must be. The message is one line and names the field."""


def read_record(kind: type[_Kind], document: Any, where: str, **more: Any) -> _Kind:
    """The dataclass that a JSON object describes.

    Args:
        kind: a dataclass; fields with other types than str, bool, int and float come in `more`.
        document: parsed JSON.
        where: what the object is, for the message.
        more: further fields, which the object must not have.

    Raises:
        RecordError: it is no object, a field is unknown, missing or of a wrong type; or the dataclass refuses it.
    """
    known = {each.name: each for each in dataclasses.fields(kind) if each.name not in more}  # type: ignore[arg-type]
    types = _types_of(kind)  # type: ignore[arg-type]
    check_names(document, known, where)
    values = {name: _value(types[name], value, f"{where}: {name}") for name, value in document.items()}
    missing = [name for name, each in known.items() if _is_required(each) and name not in values]
    if missing:
        raise RecordError(f"{where}: {missing[0]!r} is missing")
    try:
        return kind(**values, **more)
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from None


@cache
def _types_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def check_names(document: Any, known: Any, where: str) -> None:
    """Raises RecordError unless a document is an object with no other than the known names."""
    if not isinstance(document, dict):
        raise RecordError(f"{where}: must be an object")
    unknown = sorted(document.keys() - set(known))
    if unknown:
        raise RecordError(f"{where}: unknown field {unknown[0][:80]!r}; there are {', '.join(known)}")


def require(holds: bool, rule: str) -> None:
    """Raises RecordError, with the rule, unless it holds."""
    if not holds:
        raise RecordError(rule)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(kind: type, value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise RecordError(f"{where}: must be {_WORDS[kind]}")
    return value
