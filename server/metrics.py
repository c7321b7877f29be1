"""What Prometheus is told. One registry per application, no globals."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.classifier import Classifier
from server.phases import PHASES

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAGS = (0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters, histograms and gauges of one server process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "snapserve_requests",
            "Requests to /classify by outcome: ok, client-left, or the kind of problem.",
            ["outcome"],
            registry=self.registry,
        )
        self._phase = Histogram(
            "snapserve_phase_seconds",
            "Time of a picture in each phase: read, decode, queue, infer.",
            ["model", "phase"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "snapserve_batch_size", "Pictures in a batch.", ["model"], buckets=_SIZES, registry=self.registry
        )
        self._batch_seconds = Histogram(
            "snapserve_batch_seconds",
            "Time of a batch on the engine.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._left = Counter(
            "snapserve_pictures_left",
            "Pictures whose client left while they were queued or on the engine.",
            ["model"],
            registry=self.registry,
        )
        self._queue_depth = Gauge(
            "snapserve_queue_depth", "Pictures waiting for a batch.", ["model"], registry=self.registry
        )
        self._in_flight = Gauge(
            "snapserve_batches_in_flight", "Batches on the engine.", ["model"], registry=self.registry
        )
        self._accepted = Gauge(
            "snapserve_pictures_accepted",
            "Pictures accepted and not yet answered.",
            ["model"],
            registry=self.registry,
        )
        self._info = Gauge(
            "snapserve_model_info",
            "1 for each model that is served, with its facts as labels.",
            ["model", "architecture", "engine", "precision", "device", "weights"],
            registry=self.registry,
        )

        self._loop_lag = Histogram(
            "snapserve_event_loop_lag_seconds",
            "How late the event loop is, asked every 20 ms.",
            buckets=_LAGS,
            registry=self.registry,
        )

    def observe_loop_lag(self, seconds: float) -> None:
        """Records one delay of the event loop, in seconds."""
        self._loop_lag.observe(seconds)

    def count_request(self, outcome: str) -> None:
        """Counts an answered (or abandoned) request to /classify."""
        self._requests.labels(outcome).inc()

    def observe_phases(self, model: str, seconds: dict[str, float]) -> None:
        """Records the phases of one answered picture, in seconds."""
        for phase, duration in seconds.items():
            self._phase.labels(model, phase).observe(duration)

    def watch(self, name: str, classifier: Classifier) -> None:
        """Announces a loaded model and follows its gauges."""
        self._queue_depth.labels(name).set_function(lambda: classifier.batcher.queued)
        self._in_flight.labels(name).set_function(lambda: classifier.batcher.batches_in_flight)
        self._accepted.labels(name).set_function(lambda: classifier.accepted)
        for phase in PHASES:
            self._phase.labels(name, phase)
        engine, spec = classifier.engine.spec, classifier.bundle.spec
        weights = str(spec.source.get("weights", "unknown"))
        self._info.labels(name, spec.architecture, engine.kind, engine.precision, engine.device, weights).set(1)

    def observer(self, model: str) -> ModelObserver:
        """What the model's batcher reports to."""
        return ModelObserver(
            self._batch_size.labels(model), self._batch_seconds.labels(model), self._left.labels(model)
        )

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class ModelObserver:
    """Implements `batching.batcher.BatchObserver` for one model."""

    def __init__(self, size: Histogram, seconds: Histogram, left: Counter) -> None:
        self._size, self._seconds, self._left = size, seconds, left

    def batch_ran(self, size: int, seconds: float) -> None:
        self._size.observe(size)
        self._seconds.observe(seconds)

    def item_left(self) -> None:
        self._left.inc()
