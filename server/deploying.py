"""Models -> deployments, as the options say."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from models.engines.base import EngineOptions
from runtime.archive_settings import BATCH_SIZE, TIMEOUT_S, Registered
from runtime.batch_limit import BatchLimit
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.kinds.archived_classifier import ArchivedClassifier
from runtime.kinds.image_classifier import KIND
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
            opener: has the settings of each model.
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
        given, archive = config.models, self._opener.archive_of(model)
        in_process, observer = runs_in_process(given, model), self._metrics.of(model.facts)
        batching = _batching(config, model, in_process) if archive is None else _of_archive(config, model, archive)
        options = EngineOptions(given.device, given.intra_op_threads, max_batch_size=batching.max_batch_size)
        if not in_process:
            return Deployment(model, ThreadRunner(model, options), self._cpu_pool, batching, observer)
        spares = given.engine_spares if is_resident else 0
        limits = ProcessLimits(given.engine_processes, spares, given.engine_memory_mb)
        if archive is not None:
            limits = dataclasses.replace(limits, load_s=archive.asked.startup_timeout_s)
        runner: ProcessRunner[Any, Any] = ProcessRunner(
            model.facts.name, model.recipe(options), limits, self._spares, observer
        )
        return Deployment(model, runner, self._cpu_pool, batching, observer)


def runs_in_process(given: ModelConfig, model: AnyModel) -> bool:
    """Whether an engine has processes of its own: `auto` isolates files that the optimiser has not run."""
    return model.facts.is_untried if given.runner == "auto" else given.runner == "process"


def _batching(config: Config, model: AnyModel, in_process: bool) -> Batching:
    given = config.batching
    return Batching(
        _batch_size(config, model),
        given.batch_timeout_ms,
        given.queue_limit,
        config.models.engine_processes if in_process else 1,
        given.target_ms,
        BatchLimit(config.models.engine_timeout_s, config.limits.request_timeout_ms / 1000),
    )


def _of_archive(config: Config, model: AnyModel, archive: Registered) -> Batching:
    """As the archive and its registration say: they have time limits, and no target latency.

    An image classifier of ours that is to get one image at a time gets those that wait while it works: its answers
    are the same, and no handler sees the batch.
    """
    asked, processes = archive.asked, config.models.engine_processes
    size, delay_ms = asked.batch_size or BATCH_SIZE, asked.max_batch_delay_ms
    queue_limit = math.ceil(archive.most_waiting / max(1, config.server.workers)) + processes * size
    if isinstance(model, ArchivedClassifier) and size == 1:
        size, delay_ms = _batch_size(config, model), 0
    limit = BatchLimit(asked.response_timeout_s or TIMEOUT_S)
    return Batching(size, delay_ms, queue_limit, processes, None, limit)


def _batch_size(config: Config, model: AnyModel) -> int:
    """Largest batch; models other than image classifiers have a limit of their own."""
    asked, own = config.batching.max_batch_size, model.facts.max_batch_size
    return asked or own if model.facts.kind == KIND else min(asked or own, own)
