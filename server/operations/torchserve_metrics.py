"""The metrics that TorchServe has, under its names."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import cache, partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge

HOST = ("Level", "Hostname")
MODEL = ("model_name", "model_version", "hostname")
_DEFAULT_VERSION = "default"


class Spec(NamedTuple):
    """One of TorchServe's metrics.

    Attributes:
        name: as it is shown.
        kind: "counter" or "gauge".
        unit: in words.
        labels: in their order.
    """

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]

    @property
    def help(self) -> str:
        """The line that TorchServe has for it."""
        return f"Torchserve prometheus {self.kind} metric with unit: {self.unit}"


_HOST_GAUGES = {
    "CPUUtilization": "Percent",
    "MemoryUtilization": "Percent",
    "MemoryUsed": "Megabytes",
    "MemoryAvailable": "Megabytes",
    "DiskUtilization": "Percent",
    "DiskUsage": "Gigabytes",
    "DiskAvailable": "Gigabytes",
}
_CARD_GAUGES = {"GPUUtilization": "Percent", "GPUMemoryUtilization": "Percent", "GPUMemoryUsed": "Megabytes"}
_HOST_TIMES = ("QueueTime", "WorkerThreadTime")
_MODEL_TIMES = ("HandlerTime", "PredictionTime")
_LOAD_TIME = "WorkerLoadTime"
_FIRST_WORKER = 9000
_REQUESTS = "ts_inference_requests_total"
_LATENCY, _QUEUE_LATENCY = "ts_inference_latency_microseconds", "ts_queue_latency_microseconds"

SPECS: Mapping[str, Spec] = {
    each.name: each
    for each in (
        *(Spec(f"Requests{level}XX", "counter", "Count", HOST) for level in (2, 4, 5)),
        Spec(_REQUESTS, "counter", "Count", MODEL),
        *(Spec(name, "counter", "Microseconds", MODEL) for name in (_LATENCY, _QUEUE_LATENCY)),
        *(Spec(name, "gauge", "Milliseconds", HOST) for name in _HOST_TIMES),
        Spec(_LOAD_TIME, "gauge", "Milliseconds", ("WorkerName", *HOST)),
        *(Spec(name, "gauge", "ms", ("ModelName", *HOST)) for name in _MODEL_TIMES),
        *(Spec(name, "gauge", unit, HOST) for name, unit in _HOST_GAUGES.items()),
        *(Spec(name, "gauge", unit, ("Level", "DeviceId", "Hostname")) for name, unit in _CARD_GAUGES.items()),
    )
}
# Shown, but not kept: they are read when they are asked for.
OF_HOST = tuple(_HOST_GAUGES)


class TorchServeMetrics:
    """Counters and gauges of one process.

    Attributes:
        hostname: that labels them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Creates them; registry: of the process."""
        self.hostname = socket.gethostname()
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livemostrecent")
        kept = [spec for spec in SPECS.values() if spec.name not in (*_HOST_GAUGES, *_CARD_GAUGES)]
        counters = {
            each.name: Counter(each.name, each.help, each.labels, registry=registry)
            for each in kept
            if each.kind == "counter"
        }
        gauges = {each.name: gauge(each.name, each.help, each.labels) for each in kept if each.kind == "gauge"}
        host = "Host", self.hostname
        self._responses = {level: counters[f"Requests{level}XX"].labels(*host) for level in (2, 4, 5)}
        self._queue_time, self._thread_time = (gauges[name].labels(*host) for name in _HOST_TIMES)
        self._requests, self._latency, self._queue_latency = (
            cache(partial(_labelled, counters[name], self.hostname))
            for name in (_REQUESTS, _LATENCY, _QUEUE_LATENCY)
        )
        self._latest: tuple[float, float] | None = None
        self._latest_infer: dict[str, float] = {}
        self._handler_time, self._prediction_time = (
            cache(partial(_timed, gauges[name], self.hostname)) for name in _MODEL_TIMES
        )
        self._load_time = gauges[_LOAD_TIME]
        self._numbers: dict[tuple[str, str], int] = {}

    def count_response(self, status: int) -> None:
        """Counts a response of any of TorchServe's listeners."""
        level = 2 if 200 <= status < 300 else 4 if 400 <= status < 500 else 5
        self._responses[level].inc()

    def count_prediction(self, model: str, version: str | None) -> None:
        """Counts a request to a model that is known; version: None for the default one."""
        self._requests(model, version).inc()

    def observe(self, model: str, version: str | None, seconds: Mapping[str, float]) -> None:
        """Records the times of a request that was answered; seconds: of its phases."""
        queue, infer = seconds.get("queue", 0.0), seconds.get("infer", 0.0)
        decode = seconds.get("decode", 0.0)
        self._latency(model, version).inc((decode + queue + infer) * 1e6)
        self._queue_latency(model, version).inc(queue * 1e6)
        self._latest, self._latest_infer[model] = (queue, decode), infer

    def set_gauges(self) -> None:
        """Shows the latest times: before each look at them, not with each request."""
        if self._latest is None:
            return
        queue, decode = self._latest
        self._queue_time.set(round(queue * 1000, 3))
        self._thread_time.set(round(decode * 1000, 3))
        for model, infer in self._latest_infer.items():
            self._prediction_time(model).set(round(infer * 1000, 2))
        self._latest_infer.clear()
        self._latest = None

    def set_handler_time(self, model: str, milliseconds: float) -> None:
        """Records what the latest batch took in the handler of a model."""
        self._handler_time(model).set(round(milliseconds, 2))

    def set_load_time(self, model: str, version: str, seconds: float) -> None:
        """Records what it took to load a model; each has the number of a worker, in the order of their loads."""
        number = self._numbers.setdefault((model, version), _FIRST_WORKER + len(self._numbers))
        self._load_time.labels(f"W-{number}-{model}_{version}", "Host", self.hostname).set(round(seconds * 1000))


def _labelled(metric: Counter, hostname: str, model: str, version: str | None) -> Counter:
    return metric.labels(model, version or _DEFAULT_VERSION, hostname)


def _timed(metric: Gauge, hostname: str, model: str) -> Gauge:
    return metric.labels(model, "Model", hostname)
