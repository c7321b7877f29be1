"""A value that a handler has reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.handlers.metrics.dimension import Dimension
from models.handlers.metrics.metric_type_enum import MetricTypes

UNITS = {
    "ms": "Milliseconds",
    "s": "Seconds",
    "percent": "Percent",
    "count": "Count",
    "MB": "Megabytes",
    "GB": "Gigabytes",
    "kB": "Kilobytes",
    "B": "Bytes",
    "": "unit",
}


class Metric:
    """Name, value, unit and labels.

    Attributes:
        name: of the metric.
        unit: as the handler gave it, "ms", or in full where it gave a known one in another way.
        metric_type: of the metric.
        value: that was reported.
        dimensions: its labels.
        request_id: ids of the requests that it belongs to, with commas; "" for none.
    """

    def __init__(
        self,
        name: str,
        value: float,
        unit: str,
        dimensions: Sequence[Dimension],
        request_id: str | None = None,
        metric_method: Any = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> None:
        """Creates it.

        Args:
            name: of the metric.
            value: a number.
            unit: of the value.
            dimensions: its labels.
            request_id: of the requests that it belongs to.
            metric_method: "counter", whose values are added up; else each takes the place of the one before.
            metric_type: of the metric.

        Raises:
            TypeError: the value is no number.
        """
        self.name = name
        self.unit = unit
        self.metric_method = metric_method
        self.metric_type = MetricTypes.COUNTER if metric_method == "counter" else metric_type
        self.value = value + 0  # a text raises here, at the line that reports it
        self.dimensions = list(dimensions)
        self.request_id = request_id or ""

    def update(self, value: float, request_id: str = "", dimensions: Sequence[Dimension] = ()) -> None:
        """Adds to the value of a counter, or replaces that of another metric."""
        self.value = self.value + value if self.metric_type is MetricTypes.COUNTER else value
        self.request_id = request_id or self.request_id

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object, in TorchServe's names."""
        return {
            "MetricName": self.name,
            "Value": self.value,
            "Unit": self.unit,
            "Dimensions": [each.to_dict() for each in self.dimensions],
            "RequestId": self.request_id,
        }

    def to_json(self) -> dict[str, Any]:
        """As an observer gets it: name, value, unit in full, type, labels as pairs."""
        return {
            "name": self.name,
            "value": float(self.value),
            "unit": UNITS.get(self.unit, self.unit),
            "type": self.metric_type.value,
            "labels": [[each.name, str(each.value)] for each in self.dimensions],
        }
