"""What every envelope does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from models.handlers.context import Context


class BaseEnvelope:
    """Opens the envelope of each request, and puts the answers of its rows into one.

    Attributes:
        context: of the batch.
    """

    def __init__(self, handle_fn: Callable[[Sequence[Any], Context], Any]) -> None:
        """Creates it; `handle_fn`: takes the rows of all requests."""
        self._handle_fn = handle_fn
        self.context: Context | None = None

    def handle(self, data: Sequence[Any], context: Context) -> Any:
        """Answers a batch: as many answers as requests.

        Raises:
            ValueError: a request is not what the envelope takes.
        """
        self.context = context
        rows = [self.rows_of(content_of(each), place) for place, each in enumerate(data)]
        results = self._handle_fn([row for each in rows for row in each], context)
        if not isinstance(results, list):
            return results
        if len(results) != sum(map(len, rows)):
            return []  # too few for the requests, whatever it was for the rows
        answers, begin = [], 0
        for place, each in enumerate(rows):
            answers.append(self.answer(results[begin : begin + len(each)], place))
            begin += len(each)
        return answers

    def rows_of(self, content: Any, place: int) -> list[Any]:
        """What is in the envelope of a request.

        Args:
            content: of the request.
            place: of the request in the batch.

        Raises:
            ValueError: it is not what the envelope takes.
        """
        raise NotImplementedError

    def answer(self, results: list[Any], place: int) -> Any:
        """The answer to a request.

        Args:
            results: of its rows.
            place: of the request in the batch.
        """
        raise NotImplementedError

    def is_explain(self, place: int) -> bool:
        """Whether a request asks for explanations."""
        return self.context is not None and self.context.get_request_header(place, "explain") == "True"


def content_of(row: Any) -> Any:
    """Field `data` of a request, else `body`; JSON in bytes or text is read. Raises ValueError."""
    value = row.get("data", row.get("body")) if isinstance(row, dict) else row
    return json.loads(value) if isinstance(value, bytes | bytearray | str) else value


def list_in(content: Any, name: str) -> list[Any]:
    """A list of a JSON object, not empty. Raises ValueError."""
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list) or not found:
        raise ValueError(f"the request has no list {name!r}")
    return found
