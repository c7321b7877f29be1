"""The stay of a model in memory, and the requests that use it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from batching import DeadlineExceeded
from runtime.deployment import Deployment

log = logging.getLogger("snapserve")

AnyDeployment = Deployment[Any, Any]


class Stay:
    """A model in memory, from the beginning of its load until it is freed.

    Attributes:
        ready: the load; its result is the deployment.
        users: requests that use it, or wait for its load.
    """

    def __init__(self, load: Callable[[Stay], Awaitable[AnyDeployment]]) -> None:
        """Begins to load, on the running event loop."""
        self.users = 0
        self.deployment: AnyDeployment | None = None
        self._unused: asyncio.Event | None = None
        self.ready = asyncio.ensure_future(self._load(load))
        self.ready.add_done_callback(_look_at_error)

    async def _load(self, load: Callable[[Stay], Awaitable[AnyDeployment]]) -> AnyDeployment:
        self.deployment = await load(self)
        return self.deployment

    def release(self) -> None:
        """Ends one use."""
        self.users -= 1
        if not self.users and self._unused:
            self._unused.set()

    async def enter(self, deadline: float | None) -> AnyDeployment:
        """Begins a use, which `release` ends, and waits for the load.

        Raises:
            DeadlineExceeded: the load took longer; it goes on.
            ModelError: the model does not load.
        """
        self.users += 1
        if self.deployment is not None:
            return self.deployment
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                return await asyncio.shield(self.ready)
        except TimeoutError:
            self.release()
            raise DeadlineExceeded("the deadline passed before the model was loaded") from None
        except BaseException:
            self.release()
            raise

    async def end(self) -> None:
        """Waits for the uses that have begun, then frees the model. It must be out of reach for new ones."""
        self._unused = asyncio.Event()
        if self.users:
            await self._unused.wait()
        if self.deployment is not None:
            await self.deployment.close()


class Use:
    """One request's use of a deployment."""

    __slots__ = ("_deadline", "_find", "_stay")

    def __init__(self, find: Callable[[], Stay], deadline: float | None) -> None:
        self._find = find
        self._deadline = deadline

    async def __aenter__(self) -> AnyDeployment:
        self._stay = self._find()
        return await self._stay.enter(self._deadline)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stay.release()


def _look_at_error(ready: asyncio.Future[AnyDeployment]) -> None:
    """Retrieves the error of a load whose clients have left; asyncio would log it as never retrieved."""
    if not ready.cancelled() and ready.exception() is not None:
        log.debug("a model did not load: %s", ready.exception())
