"""What a handler returns for a request, as a row; and the parts of a response before its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from models.handlers.answers import body_of
from models.handlers.context import CONTENT_TYPE, Context, RequestProcessor
from models.handlers.streaming import ClientLeft
from runtime.processes.channel import PartChannel

# body, status, reason, content_type, headers: what a Reply has.
Row = dict[str, Any]

_LEAST_STATUS, _MOST_STATUS = 200, 999


class Parts:
    """Parts of the responses of the batch that runs: sent, or kept for requests that get theirs as a whole."""

    def __init__(
        self, context: Context, channel: PartChannel | None, places: Sequence[int], is_streamed: Sequence[bool]
    ) -> None:
        """Creates it.

        Args:
            context: of the handler; has the status and headers of each response.
            channel: that parts are sent through.
            places: of the requests in the batch of the parent.
            is_streamed: whether parts are sent, of each request.
        """
        self._context = context
        self._channel = channel
        self._places = places
        self._is_streamed = is_streamed
        self._kept: list[list[bytes]] = [[] for _ in places]
        self._begun: dict[int, tuple[int, str]] = {}

    def send_parts(self, rows: Sequence[Any], message: str, code: int) -> None:
        """See `models.handlers.context.Channel`. Raises ClientLeft."""
        channel = self._channel
        if channel is not None and all(channel.has_left(place) for place in self._places):
            raise ClientLeft
        for index, value in enumerate(rows):
            processor = self._context.request_processor[index]
            is_first, body, status = index not in self._begun, body_of(value), _status(processor, code)
            self._begun.setdefault(index, (status, message))
            if not self._is_streamed[index] or channel is None:
                self._kept[index].append(body)
                continue
            headers = processor.headers.items() if is_first else ()
            with _or_left():
                channel.send(self._places[index], body, status, [(str(key), str(each)) for key, each in headers])
        if channel is not None and not all(self._is_streamed):
            with _or_left():
                channel.beat()

    def last(self, index: int, value: Any) -> Row:
        """The row of a request: what is left of its response, or the whole. Raises UnsupportedType, ValueError."""
        processor = self._context.request_processor[index]
        begun = self._begun.get(index, (200, None))
        headers = {str(key): str(each) for key, each in processor.headers.items()}
        types = [headers.pop(key) for key in list(headers) if key.lower() == CONTENT_TYPE]
        return {
            "body": b"".join([*self._kept[index], body_of(value)]),
            "status": _status(processor, begun[0]),
            "reason": processor.reason if processor.status is not None else begun[1],
            "content_type": types[-1] if types else "",
            "headers": [list(pair) for pair in headers.items()],
        }


@contextmanager
def _or_left() -> Iterator[None]:
    """Raises ClientLeft where the parent process is gone."""
    try:
        yield
    except OSError:
        raise ClientLeft from None


def _status(processor: RequestProcessor, otherwise: int) -> int:
    """The status of a response. Raises ValueError: it cannot be that of a response with a body."""
    status = int(otherwise if processor.status is None else processor.status)
    if not _LEAST_STATUS <= status <= _MOST_STATUS:
        raise ValueError(f"{status} is no status of a response")
    return status
