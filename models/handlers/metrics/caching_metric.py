"""A metric that a handler keeps and adds to again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models.handlers.metrics.dimension import Dimension
from models.handlers.metrics.metric import Metric
from models.handlers.metrics.metric_type_enum import MetricTypes


class CachingMetric:
    """Name, unit, type and names of labels; each value goes to the store at once.

    Attributes:
        metric_name: of it.
        unit: of its values.
        dimension_names: of its labels.
        metric_type: of it.
    """

    def __init__(
        self,
        metric_name: str,
        unit: str,
        dimension_names: Sequence[str] = (),
        metric_type: MetricTypes = MetricTypes.COUNTER,
        add: Callable[[Metric], None] | None = None,
    ) -> None:
        """Creates it; `add` takes each value."""
        self.metric_name = metric_name
        self.unit = unit
        self.dimension_names = list(dimension_names)
        self.metric_type = metric_type
        self._add = add

    def add_or_update(
        self, value: float, dimension_values: Sequence[str] = (), request_id: str = "", **_: object
    ) -> None:
        """Reports a value.

        Args:
            value: a number.
            dimension_values: of its labels, in the order of their names.
            request_id: of the request that it belongs to.

        Raises:
            ValueError: there are more or fewer labels than names.
        """
        if len(dimension_values) != len(self.dimension_names):
            given, wanted = len(dimension_values), len(self.dimension_names)
            raise ValueError(f"{self.metric_name} has {wanted} dimension(s), and {given} value(s) were given")
        labels = [Dimension(*pair) for pair in zip(self.dimension_names, dimension_values, strict=True)]
        if self._add is not None:
            self._add(Metric(self.metric_name, value, self.unit, labels, request_id, None, self.metric_type))

    def update(self, value: float, request_id: str = "", dimensions: Sequence[Dimension] = ()) -> None:
        """Reports a value, with labels of the caller's."""
        self.dimension_names = [each.name for each in dimensions]
        self.add_or_update(value, [each.value for each in dimensions], request_id)
