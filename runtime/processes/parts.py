"""Parts of responses that a child sends before the end of its batch, as its parent sees them."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime.errors import ResponseBegun
from runtime.inputs import Part
from runtime.processes.frames import BrokenFrame, Message

log = logging.getLogger("snapserve")


class StreamedItem(dict[str, Any]):
    """An item, as shared memory takes it, whose response may come in parts.

    Attributes:
        content: what tells it from other items.
        has_begun: a part of its response was given away, so that it cannot be run again.
        is_left: its client has left.
        on_left: called when its client leaves; None while it does not run.
    """

    def __init__(
        self, form: Mapping[str, Any], content: Any, on_part: Callable[[Part], None] | None = None
    ) -> None:
        """Creates it.

        Args:
            form: for shared memory.
            content: what tells it from other items.
            on_part: called with each part of its response; None: they are dropped.
        """
        super().__init__(form)
        self.content = content
        self.has_begun = self.is_left = False
        self.on_left: Callable[[], None] | None = None
        self._on_part = on_part

    def give(self, part: Part) -> None:
        """Passes on a part of the response."""
        if self.is_left or self._on_part is None:
            return
        self.has_begun = True
        try:
            self._on_part(part)
        except Exception:
            log.exception("a part of a response was not sent")
            self.leave()

    def leave(self) -> None:
        """Its client has left: tells the process that runs it."""
        self.is_left = True
        if self.on_left is not None:
            self.on_left()


class BatchParts:
    """Gives parts to the items of the batch that runs, and tells their child whose client has left."""

    def __init__(self, batch: Sequence[Any], tell: Callable[[int], None]) -> None:
        """Creates it before the batch runs.

        Args:
            batch: of items, some of which may be streamed.
            tell: called with the index of an item whose client has left.
        """
        self._items = {index: item for index, item in enumerate(batch) if isinstance(item, StreamedItem)}
        for index, item in self._items.items():
            item.on_left = _teller(tell, index)

    def take(self, message: Message) -> None:
        """Passes on a part. Raises BrokenFrame."""
        try:
            item = self._items[message["part"]]
            headers = tuple([(str(name), str(value)) for name, value in message["headers"]])
            part = Part(base64.b64decode(message["body"], validate=True), int(message["status"]), headers)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise BrokenFrame("no part of a response") from None
        item.give(part)

    def close(self) -> None:
        """The batch has ended."""
        for item in self._items.values():
            item.on_left = None


def _teller(tell: Callable[[int], None], index: int) -> Callable[[], None]:
    return lambda: tell(index)


def check_not_begun(batch: Sequence[Any]) -> None:
    """Checks that every item can be run. Raises ResponseBegun."""
    if any(isinstance(item, StreamedItem) and item.has_begun for item in batch):
        raise ResponseBegun("a part of the response was sent before the handler failed")
