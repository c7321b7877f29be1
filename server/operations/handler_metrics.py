"""The metrics that handlers of model archives add to."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

log = logging.getLogger("snapserve")

MOST_METRICS = 200  # names, of all handlers of a process
MOST_SERIES = 1000  # names with values of labels
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TAKEN = ("HandlerTime", "PredictionTime")  # the server has them itself


class HandlerMetrics:
    """Makes a metric when a handler first names it. What does not fit is left out, with one line in the log."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Creates it without a metric; registry: of the process."""
        self._registry = registry
        self._metrics: dict[str, tuple[tuple[str, ...], Counter | Gauge | Histogram]] = {}
        self._series: set[tuple[str, ...]] = set()
        self._left_out: set[str] = set()

    def add(self, report: Any) -> None:
        """Takes what a handler reports: `models.handlers.metrics.metric.Metric.to_json` of each value, in a list.

        The answers that it came with are good even where it is none: a handler's process may send anything.
        """
        for each in report if isinstance(report, list) else ():
            name = str(each.get("name")) if isinstance(each, dict) else ""
            if name in _TAKEN or name in self._left_out:
                continue
            try:
                self._add(each)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                if len(self._left_out) < MOST_METRICS:
                    self._left_out.add(name)
                    log.warning("a handler's metric %.80s is left out: %s", name, error)

    def _add(self, value: Mapping[str, Any]) -> None:
        """Raises ValueError: it does not fit."""
        labels = {str(name): str(text)[:200] for name, text in value["labels"]}
        names, metric = self._metrics.get(value["name"]) or self._made(value, tuple(labels))
        if set(labels) != set(names):
            raise ValueError(f"it has the labels {', '.join(names)}")
        values = [labels[name] for name in names]
        series = (value["name"], *values)
        if series not in self._series and len(self._series) >= MOST_SERIES:
            raise ValueError(f"there are {MOST_SERIES:,} series")
        self._series.add(series)
        child, number = metric.labels(*values), float(value["value"])
        if isinstance(child, Counter):
            child.inc(number)
        elif isinstance(child, Gauge):
            child.set(number)
        else:
            child.observe(number)

    def _made(
        self, value: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[tuple[str, ...], Counter | Gauge | Histogram]:
        name, kind = value["name"], value["type"]
        if len(self._metrics) >= MOST_METRICS:
            raise ValueError(f"there are {MOST_METRICS} metrics")
        if not all(map(_NAME.fullmatch, (name, *names))):
            raise ValueError("names have letters, digits and _")
        text = f"Torchserve prometheus {kind} metric with unit: {value['unit'][:80]}"
        made: Counter | Gauge | Histogram
        if kind == "gauge":
            made = Gauge(name, text, names, registry=self._registry, multiprocess_mode="livemostrecent")
        else:
            made = (Histogram if kind == "histogram" else Counter)(name, text, names, registry=self._registry)
        self._metrics[name] = names, made
        return names, made
