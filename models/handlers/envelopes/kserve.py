"""Envelope `kserve`: version 1 of KServe's protocol, {"instances": [...]} and {"predictions": [...]}."""

from __future__ import annotations

from typing import Any

from models.handlers.envelopes.base import BaseEnvelope, list_in


class KServeEnvelope(BaseEnvelope):
    """Each instance is a row: an object as it is, anything else as field `data`."""

    def rows_of(self, content: Any, place: int) -> list[Any]:
        """The instances."""
        return [each if isinstance(each, dict) else {"data": each} for each in list_in(content, "instances")]

    def answer(self, results: list[Any], place: int) -> dict[str, Any]:
        """The results, under the name of what was asked for."""
        return {"explanations" if self.is_explain(place) else "predictions": results}
