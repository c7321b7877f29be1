"""What two readings of a histogram say."""

from __future__ import annotations

import contextlib
import math
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Recorder

from benchmark.harness.clients import scrape, total
from benchmark.service.lag import LIMIT_S, METRIC, Histogram, Round, summary
from server.operations.metrics import Metrics


def of(*counts):
    """Cumulative counts up to 1, 10 and more."""
    return Histogram(dict(zip((1.0, 10.0, math.inf), counts, strict=True)))


@contextlib.contextmanager
def metrics_page(registry):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(generate_latest(registry))

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        thread.join()


def test_a_histogram_is_read_from_the_page_of_metrics():
    registry = CollectorRegistry()
    for name in ("wanted", "wanted_not"):
        recorder = Recorder(name, "x", buckets=(1.0, 10.0), registry=registry)
    recorder.observe(3)
    with metrics_page(registry) as url:
        assert Histogram.read(url, "wanted_not") == of(0, 1, 1)


def test_a_total_is_over_all_labels():
    registry = CollectorRegistry()
    recorder = Recorder("size", "x", ["model"], registry=registry)
    for model, value in (("a", 3), ("b", 4), ("b", 5)):
        recorder.labels(model).observe(value)
    with metrics_page(registry) as url:
        samples = scrape(url)
    assert (total(samples, "size_sum"), total(samples, "size_count")) == (12, 3)


def test_what_came_between_two_readings():
    assert of(5, 6, 9).since(of(1, 2, 3)) == of(4, 4, 6)
    assert of(5, 6, 9).together(of(1, 2, 3)) == of(6, 8, 12)


@pytest.mark.parametrize(("share", "bound"), [(0.5, 1), (0.51, 10), (0.98, 10), (0.99, math.inf)])
def test_a_quantile_is_the_bound_that_is_not_exceeded(share, bound):
    assert of(50, 98, 100).quantile(share) == bound


def test_the_share_up_to_a_bound():
    assert of(50, 98, 100).share_up_to(10) == 0.98


def test_the_lag_of_all_rounds_counts_and_the_median_of_the_throughput():
    metrics = Metrics()
    for milliseconds in range(1, 101):
        metrics.observe_loop_lag(milliseconds / 1000)
    with metrics_page(metrics.registry) as url:
        lag = Histogram.read(url, METRIC)
    row = summary("fast", [Round(1.0, lag), Round(2.0, lag), Round(9.0, lag)])
    assert (row["requests_per_s"], row["samples"]) == (2.0, 300)
    assert (row["lag_p50_ms"], row["lag_p99_ms"]) == (50, 100)
    assert row["under_10_ms"] == LIMIT_S * 10
