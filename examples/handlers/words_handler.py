"""Counts words. No torch, no model: a module with a function `handle`."""

from __future__ import annotations

from collections import Counter
from typing import Any


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[Any] | None:
    """The most frequent words of each text; an empty text is refused with 422, its neighbours are not.

    Args:
        data: a dict per request; None once, when the handler is loaded.
        context: of the batch.
    """
    if data is None:
        return None
    return [_answer(index, row, context) for index, row in enumerate(data)]


def _answer(index: int, row: dict[str, Any], context: Any) -> Any:
    value = row.get("data") or row.get("body") or ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
    words = text.lower().split()
    if not words:
        context.set_response_status(code=422, phrase="No words", idx=index)
        return {"error": "the text has no words"}
    context.metrics.add_counter("words_counted", len(words), index)
    context.set_response_content_type(index, "application/json")
    return {"words": len(words), "most_frequent": dict(Counter(words).most_common(3))}
