"""Envelope `body`: a handler gets the content of each request instead of a dict."""

from __future__ import annotations

from typing import Any

from models.handlers.envelopes.base import BaseEnvelope


class BodyEnvelope(BaseEnvelope):
    """The content of a request is its one row."""

    def rows_of(self, content: Any, place: int) -> list[Any]:
        """The content."""
        return [content]

    def answer(self, results: list[Any], place: int) -> Any:
        """The result of the row."""
        return results[0]
