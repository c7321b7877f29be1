"""Work on the event loop that is done in pieces, so that everything else gets its turn."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

TURN_S = 0.003  # of all together, in one turn of the loop


class Turns:
    """Calls functions again and again, one after the other, for a few milliseconds per turn of the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Creates it; nothing waits.

        Args:
            clock: in seconds.
        """
        self._now = clock
        self._waiting: deque[Callable[[], bool]] = deque()

    @property
    def busy(self) -> bool:
        """Whether something waits for its turn."""
        return bool(self._waiting)

    def add(self, step: Callable[[], bool]) -> None:
        """Calls `step` in this turn or a later one, and again behind the others as long as it returns True."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._take_turn)
        self._waiting.append(step)

    def _take_turn(self) -> None:
        ends = self._now() + TURN_S
        while self._waiting:
            step = self._waiting[0]
            again = step()
            self._waiting.popleft()
            if again:
                self._waiting.append(step)
            if self._now() >= ends:
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._take_turn)
