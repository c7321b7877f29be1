"""Stops a decode whose client has left, or whose deadline has passed."""

from __future__ import annotations

from io import BytesIO

from models.errors import ImageError


class Stopped(ImageError):
    """The decode was stopped: its client has left, or its deadline has passed."""


class Stop(bytearray):
    """One byte that another thread sets: what decodes looks at it now and then, native code without the GIL."""

    def __init__(self) -> None:
        super().__init__(1)

    def set(self) -> None:
        """Asks the decoder that looks at it to stop."""
        self[0] = 1

    def check(self) -> None:
        """Raises Stopped when it was set."""
        if self[0]:
            raise Stopped("the request of this image has ended")


class StoppableFile(BytesIO):
    """A file in memory whose reader is stopped between two reads."""

    def __init__(self, data: bytes, stop: Stop) -> None:
        super().__init__(data)
        self._stop = stop

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO's. Raises Stopped."""
        self._stop.check()
        return super().read(size)
