"""A histogram of a server's /metrics, and what two readings of it say about the time between them."""

from __future__ import annotations

import math
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Histogram:
    """Counts of samples.

    Attributes:
        up_to: upper bound -> samples that are at most that, in ascending order; the last bound is infinite.
    """

    up_to: Mapping[float, float]

    @classmethod
    def read(cls, url: str, name: str) -> Histogram:
        """The histogram of that name without labels, as the server at `url` shows it now."""
        with urllib.request.urlopen(url + "/metrics", timeout=30) as response:
            text = response.read().decode()
        buckets = re.findall(rf'^{name}_bucket{{le="(.+?)"}} (\S+)$', text, re.MULTILINE)
        return cls({float(bound): float(count) for bound, count in buckets})

    @property
    def count(self) -> float:
        """All samples."""
        return self.up_to[math.inf]

    def since(self, earlier: Histogram) -> Histogram:
        """What came after an earlier reading."""
        return Histogram({bound: count - earlier.up_to[bound] for bound, count in self.up_to.items()})

    def together(self, other: Histogram) -> Histogram:
        """The samples of both."""
        return Histogram({bound: count + other.up_to[bound] for bound, count in self.up_to.items()})

    def quantile(self, share: float) -> float:
        """The least bound that at least that share of the samples does not exceed."""
        return next(bound for bound, count in self.up_to.items() if count >= share * self.count)

    def share_up_to(self, bound: float) -> float:
        """Which part of the samples is at most `bound`, which is one of the bounds."""
        return self.up_to[bound] / self.count
