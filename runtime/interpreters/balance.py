"""Which interpreter a new session gets."""

from __future__ import annotations

import threading


class Balance:
    """Counts the users of each interpreter. Usable from any thread; never blocks for long."""

    def __init__(self, count: int) -> None:
        """Creates it for so many interpreters, without users."""
        self._users = [0] * count
        self._limit = count
        self._last = threading.local()
        self._counting = threading.Lock()

    def limit(self, count: int) -> None:
        """Lets only the first ones take part. Raises ValueError for more than there are, or none."""
        if not 1 <= count <= len(self._users):
            raise ValueError(f"{count} of {len(self._users)} interpreters cannot take part")
        self._limit = count

    def acquire(self) -> int:
        """The first one without users, from where this thread last was; else the one with the fewest."""
        with self._counting:
            begin = getattr(self._last, "number", 0) % self._limit
            order = [(begin + step) % self._limit for step in range(self._limit)]
            number = min(order, key=lambda each: self._users[each])
            self._users[number] += 1
        self._last.number = number
        return number

    def release(self, number: int) -> None:
        """One user less."""
        with self._counting:
            self._users[number] -= 1
