"""Composition: configuration and bundles in, an aiohttp application out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from models.engines.base import EngineOptions
from models.engines.selection import choose
from models.images.budget import DEFAULT_MEMORY, DecodeBudget
from models.images.formats import SUPPORTED
from models.images.preprocess import Preprocessor
from models.images.speed import relative_speed
from models.machine.allocator import give_back_memory
from models.machine.priority import give_way, give_way_entirely
from models.machine.resources import usable_cores
from runtime.batch_limit import BatchLimit
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.kinds.image_classifier import ImageClassifier
from runtime.observer import RunnerObserver
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.spares import Spares
from runtime.runner import ThreadRunner
from runtime.sources import Bundles
from runtime.store import AnyDeployment, AnyModel, ModelStore
from server.config import Config, ModelConfig
from server.dialects.classify.handlers import Classify
from server.dialects.classify.upload import UploadParser
from server.http.answer import add_dialect, around
from server.http.body import BodyReader
from server.http.context import CONTEXT, Context
from server.http.forwarded import Proxies
from server.operations.access_log import AccessLog
from server.operations.metrics import Metrics
from server.operations.shared_metrics import SharedMetrics
from server.pages import add_pages


def make_app(config: Config, bundles: Bundles, shared: SharedMetrics | None = None) -> web.Application:
    """An application whose models are not loaded yet: `app[CONTEXT].store.load()` does that.

    Args:
        config: of this process.
        bundles: to be served.
        shared: where the figures of other workers are.

    Raises:
        BundleError: a bundle cannot be served on this machine, or lacks the engine that is asked for.
    """
    # aiohttp's own limit is out of the way: `BodyReader` bounds every body.
    app = web.Application(middlewares=[around], client_max_size=0)
    metrics = Metrics(shared)
    threads = config.server.decode_threads or usable_cores()
    cpu_pool = CpuPool(threads, give_way, give_way_entirely, give_back_memory)
    models, spares = _models(config, bundles), Spares()
    store = ModelStore(models, lambda model: _deploy(config, model, cpu_pool, spares, metrics), metrics)
    proxies, log = Proxies(config.server.trusted_proxy, config.server.root_path), config.server
    access_log = (
        AccessLog(log.access_log_format, log.access_log_probes, proxies.client_of) if log.access_log else None
    )
    dialect = Classify(store, UploadParser(config.limits, cpu_pool))
    prefixes = {"", config.server.root_path}
    app[CONTEXT] = Context(
        config,
        store,
        metrics,
        cpu_pool,
        spares,
        BodyReader(config.limits),
        proxies,
        dialect,
        frozenset(prefix + path for prefix in prefixes for path in dialect.paths()),
        access_log,
    )
    for prefix in prefixes:
        add_dialect(app, dialect, prefix)
        add_pages(app, prefix)
    return app


def _models(config: Config, bundles: Bundles) -> Mapping[str, AnyModel]:
    given, limits = config.models, config.limits
    max_pixels, formats = int(limits.max_image_mpixels * 1_000_000), SUPPORTED + limits.accept_format
    budget = DecodeBudget(limits.max_decode_ms, limits.decode_memory_mb * 1e6 or DEFAULT_MEMORY, relative_speed)
    models: dict[str, AnyModel] = {}
    for name, bundle in bundles.items():
        choice = choose(bundle, given.device, given.engine, given.intra_op_threads)
        spec = choice.bundle.spec.preprocess
        preprocessor = Preprocessor(spec, max_pixels, config.server.scaled_decode, formats, budget)
        models[name] = ImageClassifier(name, choice, preprocessor)
    return models


def _deploy(config: Config, model: AnyModel, cpu_pool: CpuPool, spares: Spares, metrics: Metrics) -> AnyDeployment:
    given, batching = config.models, config.batching
    size = batching.max_batch_size or model.facts.max_batch_size
    options = EngineOptions(given.device, given.intra_op_threads, max_batch_size=size)
    in_process, observer = runs_in_process(given, model), metrics.of(model.facts.name)
    return Deployment(
        model,
        (_process_runner(given, model, options, spares, observer) if in_process else ThreadRunner(model, options)),
        cpu_pool,
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


def runs_in_process(given: ModelConfig, model: AnyModel) -> bool:
    """Whether an engine has processes of its own: a file that nobody has tried may do anything."""
    return model.facts.is_untried if given.runner == "auto" else given.runner == "process"


def _process_runner(
    given: ModelConfig, model: AnyModel, options: EngineOptions, spares: Spares, observer: RunnerObserver
) -> ProcessRunner[Any, Any]:
    limits = ProcessLimits(given.engine_processes, given.engine_spares, given.engine_memory_mb)
    return ProcessRunner(model.facts.name, model.recipe(options), limits, spares, observer)
