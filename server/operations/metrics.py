"""Metrics for Prometheus, of one process or of all workers together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, Summary, generate_latest

from runtime.model import ModelFacts
from runtime.phases import PHASES
from runtime.processes.child import REASONS
from runtime.stay import AnyDeployment
from server.operations.handler_metrics import HandlerMetrics
from server.operations.line_writer import dropped_lines
from server.operations.shadow_metrics import ShadowMetrics
from server.operations.shared_metrics import SharedMetrics
from server.operations.torchserve_metrics import TorchServeMetrics

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAGS = (0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class _DroppedLines:
    """The counter of this process's dropped log lines, brought up to date now and then, not in `write`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Log lines that were dropped: their reader was too slow, or the disk was full."
        self._counter = Counter("snapserve_log_lines_dropped", text, registry=registry)
        self._counted = 0

    def update(self) -> None:
        dropped = dropped_lines()
        if dropped != self._counted:
            self._counter.inc(dropped - self._counted)
            self._counted = dropped


class Metrics:
    """Counters, histograms and gauges of a server process that answers requests.

    Attributes:
        registry: that holds them.
        shadows: the counters of versions that run in the shadow of others.
        torchserve: those of TorchServe; None where its API is not answered.
    """

    def __init__(self, shared: SharedMetrics | None = None, torchserve: bool = False) -> None:
        """Creates them.

        Args:
            shared: where those of other workers are; None: there is one process only.
            torchserve: whether its API is answered.
        """
        if shared:
            shared.join()
        self._shared = shared
        self._watched: dict[tuple[str, str], AnyDeployment] = {}
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry, multiprocess_mode="livesum")
        requests = "Requests to /classify by outcome: ok, client-left, or the kind of problem."
        phases = "Time of an image in each phase: read, decode, queue, infer."
        left = "Images whose client left while they were queued or on the engine."
        failed = "Time of images without a response: refused, failed, or their client left."
        facts = ["model", "architecture", "engine", "precision", "device", "weights", "version"]
        lag = "How late the event loop is, asked every 20 ms."
        queue, running = "Images waiting for a batch.", "Batches on the engine."
        accepted = "Images accepted and not yet answered."
        target = "Longest time from acceptance to response; 0: no limit."
        engine_timeout = "Longest time of a batch; an engine that takes longer is ended."
        limit = "Most images in a batch; lowered for a minute when batches were too large for the engine."
        processes = "Processes of an engine that runs in processes, those that are loading it too."
        ended = f"Processes of an engine that ended and were to go on, by reason: {', '.join(REASONS)}."
        forecast = "Time to the response of a request that came now; of several workers the longest."
        loads = "Models that were loaded, those of the start too."
        evictions = "Models loaded on first use that were freed for others."
        model = ["model", "version"]
        self._requests = counter("snapserve_requests", requests, ["outcome"])
        self._phase = histogram("snapserve_phase_seconds", phases, ["model", "phase", "version"], buckets=_SECONDS)
        self._batch_size = histogram("snapserve_batch_size", "Images in a batch.", model, buckets=_SIZES)
        self._batch_seconds = histogram(
            "snapserve_batch_seconds", "Time of a batch on the engine.", model, buckets=_SECONDS
        )
        self._left = counter("snapserve_pictures_left", left, model)
        self._failed = Summary("snapserve_failed_seconds", failed, model, registry=self.registry)
        self._loads = counter("snapserve_model_loads", loads)
        self._evictions = counter("snapserve_model_evictions", evictions)
        self._processes_ended = counter("snapserve_engine_processes_ended", ended, ["model", "reason", "version"])
        least = partial(Gauge, registry=self.registry, multiprocess_mode="livemin")
        longest = partial(Gauge, registry=self.registry, multiprocess_mode="livemax")
        self._gauges: dict[Gauge, Callable[[AnyDeployment], float]] = {
            gauge("snapserve_queue_depth", queue, model): lambda each: each.batcher.queued,
            gauge("snapserve_batches_in_flight", running, model): lambda each: each.batcher.batches_in_flight,
            gauge("snapserve_pictures_accepted", accepted, model): lambda each: each.accepted,
            gauge("snapserve_engine_processes", processes, model): lambda each: each.runner.processes,
            least("snapserve_batch_size_limit", limit, model): lambda each: each.batcher.size_limit,
            longest("snapserve_target_latency_seconds", target, model): _target_s,
            longest("snapserve_engine_timeout_seconds", engine_timeout, model): lambda each: each.runner.limit_s,
            longest("snapserve_forecast_seconds", forecast, model): lambda each: each.forecast_s(),
        }
        self._info = longest(
            "snapserve_model_info", "1 for each model that is served, with its facts as labels.", facts
        )
        self.shadows = ShadowMetrics(self.registry)
        self.torchserve = TorchServeMetrics(self.registry) if torchserve else None
        self._handlers = HandlerMetrics(self.registry)
        self._dropped_lines = _DroppedLines(self.registry)
        self._loop_lag = histogram("snapserve_event_loop_lag_seconds", lag, buckets=_LAGS)
        # `labels` checks and converts its words each time.
        self._outcome, self._phase_of = cache(self._requests.labels), cache(self._phase.labels)

    def observe_loop_lag(self, seconds: float) -> None:
        """Records one delay of the event loop, in seconds."""
        self._loop_lag.observe(seconds)
        if self._shared:
            self._set_gauges()  # 50 times a second: other workers read them from the shared folder

    def count_request(self, outcome: str) -> None:
        """Counts an answered (or abandoned) request to /classify."""
        self._outcome(outcome).inc()

    def deployed(self, deployment: AnyDeployment) -> None:
        """Counts the load of a model, shows it and follows its gauges."""
        self._loads.inc()
        key = _key(deployment.model.facts)
        self._watched[key] = deployment
        for phase in PHASES:
            self._phase.labels(key[0], phase, key[1])
        self._info.labels(*_facts_of(deployment)).set(1)
        if self.torchserve is not None:
            self.torchserve.set_load_time(*key, deployment.load_s)

    def removed(self, deployment: AnyDeployment) -> None:
        """Shows a model no longer. What was counted of it stays."""
        key = _key(deployment.model.facts)
        if self._watched.get(key) is not deployment:  # another one has taken its place
            return
        del self._watched[key]
        if self._shared:  # there a series cannot be taken out
            self._info.labels(*_facts_of(deployment)).set(0)
            for gauge in self._gauges:
                gauge.labels(*key).set(0)
            return
        self._info.remove(*_facts_of(deployment))
        for gauge in self._gauges:
            gauge.remove(*key)

    def evicted(self) -> None:
        """Counts a model that is evicted for another one."""
        self._evictions.inc()

    def of(self, facts: ModelFacts) -> ModelObserver:
        """What the deployment of a model reports to."""
        key = _key(facts)
        return ModelObserver(
            self._batch_size.labels(*key),
            self._batch_seconds.labels(*key),
            self._left.labels(*key),
            self._failed.labels(*key),
            lambda phase: self._phase_of(facts.name, phase, facts.version),
            lambda reason: self._processes_ended.labels(facts.name, reason, facts.version),
            lambda report: self._report(facts.name, report),
        )

    def _report(self, model: str, report: Sequence[Mapping[str, Any]]) -> None:
        """Takes what the handler of a model reports."""
        self._handlers.add(report)
        if self.torchserve is not None:
            for each in report:
                if each["name"] == "HandlerTime":
                    self.torchserve.set_handler_time(model, each["value"])

    def _set_gauges(self) -> None:
        self._dropped_lines.update()
        if self.torchserve is not None:
            self.torchserve.set_gauges()
        for key, deployment in self._watched.items():
            for gauge, value in self._gauges.items():
                gauge.labels(*key).set(value(deployment))

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        self._set_gauges()
        return self._shared.exposition() if self._shared else generate_latest(self.registry)

    def families(self) -> list[Metric]:
        """The same as objects."""
        self._set_gauges()
        return list(self._shared.families() if self._shared else self.registry.collect())


def _target_s(deployment: AnyDeployment) -> float:
    return deployment.admission.target_s or 0.0


def _key(facts: ModelFacts) -> tuple[str, str]:
    return facts.name, facts.version


def _facts_of(deployment: AnyDeployment) -> tuple[str, ...]:
    facts, engine = deployment.model.facts, deployment.runner.facts
    assert engine is not None
    spec = engine.spec
    return facts.name, facts.architecture, spec.kind, spec.precision, spec.device, facts.weights, facts.version


class ModelObserver:
    """Implements `runtime.observer.DeploymentObserver` for one model."""

    def __init__(
        self,
        size: Histogram,
        seconds: Histogram,
        left: Counter,
        failed: Summary,
        phase_of: Callable[[str], Histogram],
        ended_of: Callable[[str], Counter],
        report: Callable[[Sequence[Mapping[str, Any]]], None],
    ) -> None:
        self._size, self._seconds, self._left, self._phase_of = size, seconds, left, phase_of
        self._failed = failed
        self._ended_of = ended_of
        self.reported = report

    def batch_ran(self, size: int, seconds: float) -> None:
        """Counts a batch and its time."""
        self._size.observe(size)
        self._seconds.observe(seconds)

    def item_left(self) -> None:
        """Counts an item whose client left."""
        self._left.inc()

    def item_failed(self, seconds: float) -> None:
        """Records the time of an item that has no output."""
        self._failed.observe(seconds)

    def process_ended(self, reason: str) -> None:
        """Counts a process of the engine that ended."""
        self._ended_of(reason).inc()

    def item_answered(self, phases_s: Mapping[str, float]) -> None:
        """Records the phases of an item."""
        for phase, seconds in phases_s.items():
            self._phase_of(phase).observe(seconds)


class SupervisorMetrics:
    """What the supervisor adds to the figures of its workers."""

    def __init__(self, shared: SharedMetrics | None) -> None:
        if shared:
            shared.join()
        registry = CollectorRegistry()
        self.ready = Gauge(
            "snapserve_workers_ready",
            "Workers that are ready to serve.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.ended = Counter(
            "snapserve_workers_ended", "Workers that ended without being told to.", registry=registry
        )
        self.rollbacks = Counter(
            "snapserve_model_rollbacks",
            "Default versions that failed and were rolled back.",
            registry=registry,
        )
        self._dropped_lines = _DroppedLines(registry)

    def count_dropped_lines(self) -> None:
        """Counts the log lines that were dropped since the last call."""
        self._dropped_lines.update()
