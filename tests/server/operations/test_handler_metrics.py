"""Metrics of handlers in Prometheus' form."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from models.handlers.metrics.dimension import Dimension
from models.handlers.metrics.metric_type_enum import MetricTypes
from models.handlers.metrics.metrics_store import MetricsStore
from runtime.model import ModelFacts
from runtime.observer import ReportObserver
from server.operations.handler_metrics import MOST_METRICS, MOST_SERIES, HandlerMetrics
from server.operations.metrics import Metrics


def test_values_of_handlers_are_shown_by_type_with_their_labels():
    metrics, store = Metrics(), MetricsStore("m")
    observer = metrics.of(ModelFacts("m", "handler", "x", "", 0, 1))
    assert isinstance(observer, ReportObserver)
    store.begin(["a", "b"])
    store.add_counter("seen", 2)
    store.add_counter("seen", 3, 1)
    store.add_time("took", 1.5, unit="ms", dimensions=[Dimension("Step", "decode")])
    made = store.add_metric_to_cache("sizes", "B", ["Kind"], MetricTypes.HISTOGRAM)
    made.add_or_update(7, ["png"])
    assert store.get_metric("sizes", MetricTypes.HISTOGRAM) is made
    with pytest.raises(ValueError, match=r"1 dimension\(s\), and 0 value\(s\)"):
        made.add_or_update(7)
    with pytest.raises(TypeError):
        store.add_error("wrong", "a text")
    observer.reported(store.take())
    lines = metrics.exposition().decode().splitlines()
    assert 'seen_total{Level="Model",ModelName="m"} 5.0' in lines
    assert 'took{Level="Model",ModelName="m",Step="decode"} 1.5' in lines
    assert 'sizes_sum{Kind="png"} 7.0' in lines
    assert "# HELP took Torchserve prometheus gauge metric with unit: Milliseconds" in lines


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "a b"}, "letters"),
        ({"labels": [["other", "x"]]}, "it has the labels l"),
        ({"name": "python_info", "type": "gauge"}, "uplicated"),
        ({"name": "many"}, f"there are {MOST_METRICS} metrics"),
        ({"value": -1.0}, "non-negative"),
        ({"value": None}, "NoneType"),
        ({"labels": 7}, "int"),
    ],
)
def test_what_does_not_fit_is_left_out_with_one_line(caplog, changed, reason):
    registry = CollectorRegistry()
    metrics = HandlerMetrics(registry)
    value = {"name": "n", "value": 1.0, "unit": "Count", "type": "counter", "labels": [["l", "x"]]}
    metrics.add([value])
    if "many" in changed.values():
        metrics.add([{**value, "name": f"n{number}"} for number in range(MOST_METRICS - 1)])
    if changed.get("name") == "python_info":
        HandlerMetrics(registry).add([{**value, "name": "python_info", "type": "gauge"}])
    metrics.add([{**value, **changed}, {**value, **changed}])
    assert len(caplog.messages) == 1 and reason in caplog.messages[0]
    assert b'n_total{l="x"} 1.0' in generate_latest(registry)


def test_series_and_the_texts_of_labels_are_bounded(caplog):
    registry = CollectorRegistry()
    metrics = HandlerMetrics(registry)
    value = {"name": "n", "value": 1.0, "unit": "Count", "type": "counter"}
    metrics.add([{**value, "labels": [["l", f"{number}{'x' * 300}"]]} for number in range(MOST_SERIES + 10)])
    assert len(caplog.messages) == 1 and f"there are {MOST_SERIES:,} series" in caplog.messages[0]
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("n_total{")]
    assert len(lines) == MOST_SERIES and max(map(len, lines)) < 250


@pytest.mark.parametrize("report", [7, {"name": "n"}, [7], [{}], [{"name": ["n"]}], "text"])
def test_a_report_that_is_none_does_no_harm(report):
    registry = CollectorRegistry()
    HandlerMetrics(registry).add(report)
    assert generate_latest(registry) == b""
