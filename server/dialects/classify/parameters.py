"""What a request asks for beside its image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from server.http.faults import BadRequest

NAMES = ("top_k", "min_score", "model", "version", "format")
FORMATS = ("json", "hf", "text")
DEFAULT_TOP_K = 5

_SPELLINGS = {name.replace("_", ""): name for name in NAMES}


@dataclass(frozen=True)
class Parameters:
    """The parameters of one request.

    Attributes:
        top_k: how many predictions, None for the default.
        min_score: predictions below it are left out, 0 … 1.
        model: name of the model, None for the default one.
        version: of the model, None for its default one.
        format: one of `FORMATS`.
    """

    top_k: int | None = None
    min_score: float = 0.0
    model: str | None = None
    version: str | None = None
    format: str = "json"

    def top_k_of(self, num_classes: int) -> int:
        """The number of predictions for a model.

        Raises:
            BadRequest: more than the model has classes.
        """
        if self.top_k is None:
            return min(DEFAULT_TOP_K, num_classes)
        if not 1 <= self.top_k <= num_classes:
            raise BadRequest(f"top_k must be between 1 and {num_classes}, the number of the model's classes.")
        return self.top_k


def chosen(pairs: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    """The parameters among some names and values. An empty value means that nothing was chosen.

    Args:
        pairs: of the query, a form or JSON; other names than those of parameters are passed over.
        where: they come from, for people.

    Raises:
        BadRequest: one has two values, or a name is a parameter's with another spelling.
    """
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in NAMES:
            value = value.strip() if isinstance(value, str) else value
            if value is None or value == "":
                continue
            if values.setdefault(name, value) != value:
                raise BadRequest(f"{name} has two values in {where}; choose one.")
        elif meant := _meant(name):
            raise BadRequest(f'The parameter "{name}" in {where} must be spelt {meant}.')
    return values


def _meant(name: str) -> str | None:
    """The parameter that a name is but for case and punctuation: topK, top-k."""
    return _SPELLINGS.get("".join(filter(str.isalnum, name)).lower())


def read_parameters(query: Mapping[str, Any], fields: Mapping[str, Any], accept: str) -> Parameters:
    """Merges the parameters; the query wins over the body, `format` over the Accept header.

    Args:
        query: the parameters `chosen` there.
        fields: those `chosen` in the body.
        accept: the header.

    Raises:
        BadRequest: a value is no number, or not allowed.
    """
    given = {**fields, **query}
    values: dict[str, Any] = {}
    if "top_k" in given:
        values["top_k"] = _number(int, "top_k", given["top_k"])
        if values["top_k"] < 1:
            raise BadRequest("top_k must be at least 1.")
    if "min_score" in given:
        values["min_score"] = _number(float, "min_score", given["min_score"])
        if not 0 <= values["min_score"] <= 1:
            raise BadRequest("min_score must be between 0 and 1.")
    for name in ("model", "version"):
        if name in given:
            values[name] = str(given[name])
    values["format"] = given.get("format") or ("text" if _prefers_text(accept) else "json")
    if values["format"] not in FORMATS:
        raise BadRequest(f"format must be one of {', '.join(FORMATS)}.")
    return Parameters(**values)


def _number(kind: type[int] | type[float], name: str, value: Any) -> int | float:
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            number = kind(value)
            if math.isfinite(number) and (isinstance(value, str) or number == value):
                return number
    except (ValueError, OverflowError):
        pass
    raise BadRequest(f"{name} must be {'a whole number' if kind is int else 'a number'}.")


def _prefers_text(accept: str) -> bool:
    return accept.split(",")[0].split(";")[0].strip().lower() == "text/plain"
