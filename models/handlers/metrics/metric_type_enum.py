"""Types of metrics."""

from __future__ import annotations

from enum import Enum


class MetricTypes(Enum):
    """What becomes of the values of a metric: added up, kept, or counted by size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
