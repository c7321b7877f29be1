"""Composition: configuration and bundles in, an aiohttp application out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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
from runtime.memory import ModelMeter
from runtime.observer import RunnerObserver
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.spares import Spares
from runtime.room import Capacity, Room
from runtime.runner import ThreadRunner
from runtime.sources import Bundles
from runtime.stay import AnyDeployment
from runtime.store import ModelStore
from runtime.version import AnyModel
from server.config import Config, ModelConfig
from server.dialects.classify.handlers import Classify
from server.dialects.classify.upload import UploadParser
from server.http.answer import add_dialect, around
from server.http.body import BodyReader
from server.http.context import CONTEXT, Context
from server.http.dialect import DIALECTS, Dialect, Dialects
from server.http.forwarded import Proxies
from server.operations.access_log import AccessLog
from server.operations.metrics import Metrics
from server.operations.shared_metrics import SharedMetrics
from server.pages import add_pages


class Apps(NamedTuple):
    """What answers on each port.

    Attributes:
        main: on the service's own.
        ports: the others, and what answers there.
    """

    main: web.Application
    ports: Mapping[int, web.Application]


def make_apps(config: Config, bundles: Bundles, shared: SharedMetrics | None = None) -> Apps:
    """Applications whose models are not loaded yet: `main[CONTEXT].store.load()` does that.

    Args:
        config: of this process.
        bundles: to be served.
        shared: where the figures of other workers are.

    Raises:
        BundleError: a bundle cannot be served on this machine, or lacks the engine that is asked for.
    """
    context, classify = _context(config, bundles, shared)
    main = _app(context, classify)
    for prefix in {"", config.server.root_path}:
        add_dialect(main, classify, prefix)
        add_pages(main, prefix)
    return Apps(main, {})


def _app(context: Context, dialect: Dialect) -> web.Application:
    # aiohttp's own limit is out of the way: `BodyReader` bounds every body.
    app = web.Application(middlewares=[around], client_max_size=0)
    app[CONTEXT], app[DIALECTS] = context, Dialects(dialect)
    return app


def _context(config: Config, bundles: Bundles, shared: SharedMetrics | None) -> tuple[Context, Classify]:
    """What the applications share, and the dialect of our own."""
    metrics = Metrics(shared)
    threads = config.server.decode_threads or usable_cores()
    cpu_pool = CpuPool(threads, give_way, give_way_entirely, give_back_memory)
    given, spares = config.models, Spares()
    capacity = Capacity(given.max_models, given.model_memory_mb * 1_000_000)
    room = Room(lambda model: _deploy(config, model, cpu_pool, spares, metrics), capacity, metrics, ModelMeter())
    store = ModelStore(_models(config, bundles), room)
    proxies, log = Proxies(config.server.trusted_proxy, config.server.root_path), config.server
    access_log = (
        AccessLog(log.access_log_format, log.access_log_probes, proxies.client_of) if log.access_log else None
    )
    bodies = BodyReader(config.limits)
    context = Context(config, store, metrics, cpu_pool, spares, bodies, proxies, access_log)
    return context, Classify(store, UploadParser(config.limits, cpu_pool))


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
    in_process, observer = runs_in_process(given, model), metrics.of(model.facts)
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
