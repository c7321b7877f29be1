"""Whether the server counts as healthy: `/ping`."""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime.errors import EngineStuck, EngineUnavailable, RuntimeFault
from server.control import Control
from server.http.context import Context
from server.http.faults import RequestError

PATIENCE_S = 300.0  # for an engine that ended; TorchServe's maxRetryTimeoutInSec


class Health:
    """Healthy while all models are loaded, and none has been without a process for long."""

    def __init__(self, context: Context, control: Control, clock: Callable[[], float] = time.monotonic) -> None:
        """Creates it.

        Args:
            context: of all applications.
            control: that loads the models of the start.
            clock: in seconds.
        """
        self._context = context
        self._control = control
        self._now = clock
        self._ill_since: float | None = None

    def is_good(self) -> bool:
        """Whether requests are answered. An engine that ends is started again, which is no illness for a while."""
        if not self._control.has_started:
            return False
        try:
            self._context.check_ready()
        except (EngineStuck, EngineUnavailable):
            self._ill_since = self._now() if self._ill_since is None else self._ill_since
            return self._now() - self._ill_since < PATIENCE_S
        except (RequestError, RuntimeFault):
            return False
        self._ill_since = None
        return True
