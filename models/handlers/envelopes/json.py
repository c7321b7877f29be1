"""Envelope `json`: {"instances": [...]} and {"predictions": [...]}."""

from __future__ import annotations

import base64
import json
from typing import Any

from models.handlers.envelopes.base import BaseEnvelope, list_in


class JSONEnvelope(BaseEnvelope):
    """Each instance is a row; {"b64": text} is bytes, as an instance or as a field of one."""

    def rows_of(self, content: Any, place: int) -> list[Any]:
        """The instances."""
        return [_row(each) for each in list_in(content, "instances")]

    def answer(self, results: list[Any], place: int) -> str:
        """The results, as JSON in one line."""
        return json.dumps({"predictions": results})


def _row(instance: Any) -> Any:
    """An instance, with bytes where it has base64."""
    if not isinstance(instance, dict):
        return {"data": instance}
    decoded = _decoded(instance)
    return (
        {"data": decoded} if decoded is not instance else {key: _decoded(each) for key, each in instance.items()}
    )


def _decoded(value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["b64"]:
        return bytearray(base64.b64decode(value["b64"]))
    return value
