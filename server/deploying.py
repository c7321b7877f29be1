"""Models -> deployments, as the options say."""

from __future__ import annotations

from typing import Any

from models.engines.base import EngineOptions
from runtime.batch_limit import BatchLimit
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.kinds.image_classifier import KIND
from runtime.observer import RunnerObserver
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.spares import Spares
from runtime.runner import ThreadRunner
from runtime.stay import AnyDeployment
from runtime.version import AnyModel
from server.config import Config, ModelConfig
from server.opening import Opener
from server.operations.metrics import Metrics


class Deployer:
    """Makes the deployments of one process."""

    def __init__(self, opener: Opener, cpu_pool: CpuPool, spares: Spares, metrics: Metrics) -> None:
        """Creates it.

        Args:
            opener: knows the settings of each model.
            cpu_pool: where inputs are prepared.
            spares: from which the processes of engines are forked.
            metrics: of the deployments.
        """
        self._opener = opener
        self._cpu_pool = cpu_pool
        self._spares = spares
        self._metrics = metrics

    def deploy(self, model: AnyModel, is_resident: bool) -> AnyDeployment:
        """The deployment of a model, not started; one that is loaded on use has no spare process."""
        config = self._opener.settings_of(model)
        given, batching = config.models, config.batching
        size = _batch_size(config, model)
        options = EngineOptions(given.device, given.intra_op_threads, max_batch_size=size)
        in_process, observer = runs_in_process(given, model), self._metrics.of(model.facts)
        spares = given.engine_spares if is_resident else 0
        return Deployment(
            model,
            self._process_runner(given, model, options, spares, observer)
            if in_process
            else ThreadRunner(model, options),
            self._cpu_pool,
            Batching(
                size,
                batching.batch_timeout_ms,
                batching.queue_limit,
                given.engine_processes if in_process else 1,
                batching.target_ms,
                BatchLimit(given.engine_timeout_s, config.limits.request_timeout_ms / 1000),
            ),
            observer,
        )

    def _process_runner(
        self, given: ModelConfig, model: AnyModel, options: EngineOptions, spares: int, observer: RunnerObserver
    ) -> ProcessRunner[Any, Any]:
        limits = ProcessLimits(given.engine_processes, spares, given.engine_memory_mb)
        return ProcessRunner(model.facts.name, model.recipe(options), limits, self._spares, observer)


def runs_in_process(given: ModelConfig, model: AnyModel) -> bool:
    """Whether an engine has processes of its own: a file that nobody has tried may do anything."""
    return model.facts.is_untried if given.runner == "auto" else given.runner == "process"


def _batch_size(config: Config, model: AnyModel) -> int:
    """Largest batch; of other models than image classifiers what they say of themselves is a limit."""
    asked, own = config.batching.max_batch_size, model.facts.max_batch_size
    return asked or own if model.facts.kind == KIND else min(asked or own, own)
