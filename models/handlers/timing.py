"""How long the steps of a handler take."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import wraps
from typing import Any


def timed(func: Callable[..., Any]) -> Callable[..., Any]:
    """Of a method of a handler: reports `ts_handler_NAME` in ms where TS_BENCHMARK is set to True."""

    @wraps(func)
    def reporting(self: Any, *args: Any, **kwargs: Any) -> Any:
        if os.environ.get("TS_BENCHMARK", "").lower() != "true":
            return func(self, *args, **kwargs)
        began = time.perf_counter()
        result = func(self, *args, **kwargs)
        took_ms = (time.perf_counter() - began) * 1000
        self.context.metrics.add_time(f"ts_handler_{func.__name__}", took_ms, None, "ms")
        return result

    return reporting
