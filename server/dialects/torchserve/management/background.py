"""Changes of models that go on, whatever becomes of the request that asked for them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from runtime.errors import ChangeFailed
from runtime.processes.restarts import Restarts
from server.dialects.torchserve.management.changer import Changer
from server.management.changer import Operation

log = logging.getLogger("snapserve")

_Result = TypeVar("_Result")


class Background:
    """Tasks that no client can cancel."""

    def __init__(self, changes: Changer) -> None:
        """Creates it; changes: of all workers."""
        self._changes = changes
        self._running: set[asyncio.Task[Any]] = set()

    def run(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Starts a task; its error is logged for debugging where nobody waits for it."""
        running = asyncio.ensure_future(work)
        self._running.add(running)
        running.add_done_callback(self._ended)
        return running

    async def insist(self, operation: Operation, tries: float = math.inf) -> None:
        """Changes the set; again after a failure that is not the model's, such as the end of a worker.

        Args:
            operation: committed set -> new set.
            tries: most of them.

        Raises:
            RuntimeFault: it cannot be; ChangeFailed after that many tries.
        """
        restarts = Restarts()
        while True:
            try:
                await self._changes.change(operation, must=True)
                return
            except ChangeFailed as error:
                restarts = restarts.after(None)
                if restarts.failed_starts >= tries:
                    raise
                log.warning("a change of models is tried again in %g s: %s", restarts.delay_s, error)
            await asyncio.sleep(restarts.delay_s)

    def _ended(self, running: asyncio.Task[Any]) -> None:
        self._running.discard(running)
        if not running.cancelled() and (error := running.exception()):  # the client may have left
            log.debug("management: %s", error)
