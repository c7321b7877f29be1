"""What a server's /metrics says: sums, and histograms between two readings."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def scrape(url: str) -> list[Sample]:
    """All samples of the server at `url`."""
    with urllib.request.urlopen(url + "/metrics", timeout=30) as response:
        text = response.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def total(samples: list[Sample], name: str) -> float:
    """The sum of the samples of that name, over all labels."""
    return sum(sample.value for sample in samples if sample.name == name)


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
        buckets = (sample for sample in scrape(url) if sample.name == f"{name}_bucket")
        return cls({float(sample.labels["le"]): sample.value for sample in buckets})

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
        """The part of the samples that is at most `bound`, which is one of the bounds."""
        return self.up_to[bound] / self.count
