"""Workers that are being started, and the requests that wait for them."""

from __future__ import annotations

import asyncio
import time

from batching import DeadlineExceeded


class Arrival:
    """The workers of one version, from the moment when they are asked for until they are there, or will not come.

    Attributes:
        waiting: requests that wait.
    """

    def __init__(self) -> None:
        """Creates it on the running event loop."""
        self.waiting = 0
        self._over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def end(self, has_come: bool) -> None:
        """Lets the requests go on; has_come: whether there are workers."""
        if not self._over.done():
            self._over.set_result(has_come)

    async def wait(self, deadline: float | None) -> bool:
        """Waits for the end. Returns whether there are workers.

        Args:
            deadline: `time.monotonic()` after which the client does not wait; None: it does for any time.

        Raises:
            DeadlineExceeded: the deadline came first.
        """
        self.waiting += 1
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                return await asyncio.shield(self._over)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the model had workers") from None
        finally:
            self.waiting -= 1
