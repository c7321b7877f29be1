"""Takes what a handler reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.handlers.metrics.caching_metric import CachingMetric
from models.handlers.metrics.dimension import Dimension
from models.handlers.metrics.metric import Metric
from models.handlers.metrics.metric_type_enum import MetricTypes

Dimensions = Sequence[Dimension] | None


class MetricsStore:
    """Keeps the values of a batch until they are sent with its answer.

    Attributes:
        model_name: label of every metric.
        store: what was reported and not yet sent.
        cache: metrics that were made to be added to, by type and name.
    """

    def __init__(self, model_name: str) -> None:
        """Creates it; `model_name`: label of every metric."""
        self.model_name = model_name
        self.store: list[Metric] = []
        self.cache: dict[tuple[MetricTypes, str], CachingMetric] = {}
        self._request_ids: Sequence[str] = ()

    def begin(self, request_ids: Sequence[str]) -> None:
        """A batch begins."""
        self._request_ids = list(request_ids)

    def take(self) -> list[dict[str, Any]]:
        """What was reported since the last call, as an observer gets it."""
        taken, self.store = self.store, []
        return [each.to_json() for each in taken]

    def add_counter(
        self, name: str, value: float, idx: int | None = None, dimensions: Dimensions = None, **more: Any
    ) -> None:
        """Adds to a number of things."""
        self._report(name, value, "count", idx, dimensions, more, MetricTypes.COUNTER)

    def add_time(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "ms",
        dimensions: Dimensions = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Reports how long something took; `unit`: "ms" or "s"."""
        if unit not in ("ms", "s"):
            raise ValueError(f"the unit of a time is ms or s, not {unit!r}")
        self._report(name, value, unit, idx, dimensions, {}, metric_type)

    def add_size(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Dimensions = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Reports a size; `unit`: "MB", "kB", "GB" or "B"."""
        if unit not in ("MB", "kB", "GB", "B"):
            raise ValueError(f"the unit of a size is MB, kB, GB or B, not {unit!r}")
        self._report(name, value, unit, idx, dimensions, {}, metric_type)

    def add_percent(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        dimensions: Dimensions = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Reports a share in percent."""
        self._report(name, value, "percent", idx, dimensions, {}, metric_type)

    def add_error(self, name: str, value: float, dimensions: Dimensions = None, **more: Any) -> None:
        """Adds to a number of errors."""
        self._report(name, value, "", None, dimensions, more, MetricTypes.COUNTER)

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str = "",
        idx: int | None = None,
        dimensions: Dimensions = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> None:
        """Reports a value of any kind."""
        self._report(name, value, unit, idx, dimensions, {}, metric_type)

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str,
        dimension_names: Sequence[str] = (),
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """Makes a metric that is added to later."""
        made = CachingMetric(metric_name, unit, dimension_names, metric_type, self.store_value)
        return self.cache.setdefault((metric_type, metric_name), made)

    def get_metric(self, metric_name: str, metric_type: MetricTypes = MetricTypes.COUNTER) -> CachingMetric:
        """The metric that was made before, or added to.

        Raises:
            KeyError: there is none of that name and type.
        """
        return self.cache[metric_type, metric_name]

    def store_value(self, metric: Metric) -> None:
        """Takes a value."""
        self.store.append(metric)

    def _report(
        self,
        name: str,
        value: float,
        unit: str,
        idx: int | None,
        dimensions: Dimensions,
        more: dict[str, Any],
        metric_type: MetricTypes,
    ) -> None:
        """Raises TypeError: the value is no number."""
        given = list(dimensions or more.pop("default_dimensions", None) or ())
        names = {each.name for each in given}
        own = [Dimension("ModelName", self.model_name), Dimension("Level", "Model")]
        labels = [each for each in own if each.name not in names] + given
        self.add_metric_to_cache(name, unit, [each.name for each in labels], metric_type)
        self.store_value(Metric(name, value, unit, labels, self._ids(idx), None, metric_type))

    def _ids(self, idx: int | None) -> str:
        if idx is None:
            return ",".join(self._request_ids)
        return self._request_ids[idx] if idx < len(self._request_ids) else ""
