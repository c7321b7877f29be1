"""What decoding may cost: time for each image, memory for all of them together."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Self

from models.errors import TooCostly, TooMuchMemory
from models.images.cost import Cost
from models.images.stop import Stop

DEFAULT_MAX_PIXELS = 50_000_000
DEFAULT_MEMORY = 512_000_000  # bytes; enough for nearly every kind of image of so many pixels (docs/pictures.md)
# Of an image that takes less than this neither the memory is counted nor the machine's speed asked for.
FREE_BYTES = 24 << 20
_FREE_S = 0.05
_LOOK_S = 0.1  # how often one that waits looks whether its client has left


class DecodeBudget:
    """Bounds on the cost of decoding, shared by all threads of a process.

    Attributes:
        max_decode_ms: most milliseconds of one thread that an image may take.
        memory: bytes for all images together that are decoded at once, beside small ones.
        held: bytes of it that are in use.
    """

    def __init__(
        self,
        max_decode_ms: float = math.inf,
        memory: float = math.inf,
        speed: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Creates it.

        Args:
            max_decode_ms: most milliseconds of one thread that an image may take.
            memory: bytes for all images together that are decoded at once, beside small ones.
            speed: seconds of this machine for one of the machine that the estimates are for.
        """
        self.max_decode_ms = max_decode_ms
        self.memory = memory
        self.held = 0.0
        self._speed = speed
        self._waiting: deque[Hold] = deque()
        self._changed = threading.Condition()

    def hold(self, stop: Stop) -> Hold:
        """A context in which one image is decoded; what it was admitted with is given back at its end."""
        return Hold(self, stop)

    def check_time(self, cost: Cost) -> None:
        """Raises TooCostly for an image that takes too long on this machine."""
        if cost.seconds > _FREE_S:
            actual = cost.seconds * self._speed() * 1000
            if actual > self.max_decode_ms:
                raise TooCostly(self.max_decode_ms, actual)

    def take(self, hold: Hold, size: float, stop: Stop) -> None:
        """Waits until `size` bytes are free and all that came before have theirs.

        Raises:
            TooMuchMemory: there will never be so many.
            Stopped: the client of the image has left.
        """
        if size > self.memory:
            raise TooMuchMemory(int(self.memory), math.ceil(size))
        with self._changed:
            self._waiting.append(hold)
            try:
                while self._waiting[0] is not hold or self.held + size > self.memory:
                    self._changed.wait(_LOOK_S)
                    stop.check()
                self.held += size
            finally:
                self._waiting.remove(hold)
                self._changed.notify_all()

    def give_back(self, size: float) -> None:
        """Frees bytes that were taken."""
        with self._changed:
            self.held -= size
            self._changed.notify_all()


class Hold:
    """The memory of one image, taken when its cost is known, given back at the end of the context."""

    __slots__ = ("_budget", "_size", "_stop")

    def __init__(self, budget: DecodeBudget, stop: Stop) -> None:
        self._budget = budget
        self._stop = stop
        self._size = 0.0

    def admit(self, cost: Cost) -> None:
        """Checks what an image will cost, and waits for its memory; again, when it turns out to cost more.

        Raises:
            TooCostly: it would take too long.
            TooMuchMemory: it would take more than all images together may.
            Stopped: its client has left.
        """
        self._budget.check_time(cost)
        self._give_back()  # first: two that hold some and wait for more would wait for each other
        if cost.memory > FREE_BYTES:
            self._budget.take(self, cost.memory, self._stop)
            self._size = cost.memory

    def _give_back(self) -> None:
        size, self._size = self._size, 0.0
        if size:
            self._budget.give_back(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
