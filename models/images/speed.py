"""How fast this machine decodes, beside the one that the estimates of cost.py were measured on."""

from __future__ import annotations

import time
import zlib
from functools import lru_cache

_REFERENCE_S = 0.00065  # what `_seconds` gave there
_ROUNDS = 5
_RANGE = (0.25, 20.0)
_PACKED = zlib.compress(bytes(range(256)) * 8192)


@lru_cache
def relative_speed() -> float:
    """Seconds of a thread here for a second there: 2 on a machine half as fast. Measured once, in milliseconds."""
    least = min(_seconds() for _ in range(_ROUNDS))
    return min(max(least / _REFERENCE_S, _RANGE[0]), _RANGE[1])


def _seconds() -> float:
    began = time.thread_time()  # of this thread alone: others may take the cores
    zlib.decompress(_PACKED)
    return time.thread_time() - began
