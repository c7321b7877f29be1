"""When requests are due: a Poisson process, as many independent clients make it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def poisson(rate: float, seed: int, *, seconds: float = math.inf, requests: int | None = None) -> Times:
    """Arrival times with exponential gaps, the same for the same seed.

    Args:
        rate: arrivals per second, on average.
        seed: of the random numbers.
        seconds: no arrival is later than this.
        requests: exactly that many arrivals, whatever time they take; `seconds` then does not count.

    Returns:
        float64 [N], seconds since the start, ascending.
    """
    gaps = np.random.default_rng(seed)
    if requests is not None:
        return np.cumsum(gaps.exponential(1 / rate, requests))
    expected = rate * seconds
    enough = int(expected + 10 * math.sqrt(expected) + 20)  # ten standard deviations more than expected
    times = np.cumsum(gaps.exponential(1 / rate, enough))
    return times[times < seconds]
