"""The spare processes of a worker."""

from __future__ import annotations

import asyncio
from collections import Counter

from runtime.processes.spare import Spare

KEPT_S = 60.0  # models come and go: the next one may need it soon


class Spares:
    """Has one spare process for all engines that import the same modules.

    One that no engine uses any more is kept for `KEPT_S`.
    """

    def __init__(self, kept_s: float = KEPT_S) -> None:
        """Creates it without a process; `kept_s`: how long one without users is kept, in seconds."""
        self._kept_s = kept_s
        self._spares: dict[tuple[str, ...], Spare] = {}
        self._users: Counter[tuple[str, ...]] = Counter()
        self._unused: dict[tuple[str, ...], asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def take(self, modules: tuple[str, ...]) -> Spare:
        """The spare process that has imported these modules, for an engine that calls `give_back` at its end."""
        if timer := self._unused.pop(modules, None):
            timer.cancel()
        if modules not in self._spares:
            self._spares[modules] = Spare(modules)
        self._users[modules] += 1
        return self._spares[modules]

    def give_back(self, modules: tuple[str, ...]) -> None:
        """An engine that used it has ended, with its children."""
        self._users[modules] -= 1
        if not self._users[modules] and modules in self._spares:
            loop = asyncio.get_running_loop()
            self._unused[modules] = loop.call_later(self._kept_s, self._end, modules)

    def _end(self, modules: tuple[str, ...]) -> None:
        del self._unused[modules]
        ending = asyncio.ensure_future(self._spares.pop(modules).close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Ends every spare process, and with it every child that is left."""
        for timer in self._unused.values():
            timer.cancel()
        spares = list(self._spares.values())
        self._spares.clear()
        self._unused.clear()
        await asyncio.gather(*self._ending, *(spare.close() for spare in spares))
