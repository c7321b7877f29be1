"""Composition: configuration and bundles in, an aiohttp application out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from models.errors import BundleError
from models.machine.allocator import give_back_memory
from models.machine.priority import give_way, give_way_entirely
from models.machine.resources import usable_cores
from runtime.cpu_pool import CpuPool
from runtime.memory import ModelMeter
from runtime.model_set import ModelSet
from runtime.on_demand import OnDemand
from runtime.processes.spares import Spares
from runtime.room import Capacity, Room
from runtime.sources import Bundles
from runtime.store import ModelStore
from server.config import Config
from server.control import Control
from server.deploying import Deployer
from server.dialects.classify.handlers import Classify
from server.dialects.classify.upload import UploadParser
from server.dialects.open_inference.handlers import OpenInference
from server.dialects.open_inference.pages import add_open_inference
from server.dialects.torch_serving.handlers import TorchServing, add_torch_serving
from server.dialects.torchserve.archive_key import ArchiveKey
from server.dialects.torchserve.handlers import TorchServe
from server.dialects.torchserve.keys import key_file
from server.dialects.torchserve.metrics import MetricsApi, add_metrics
from server.dialects.torchserve.ports import add_common, add_inference
from server.dialects.torchserve.replies import HTTPS_ONLY
from server.dialects.torchserve.shared_port import SharedPort
from server.guard import Guard
from server.http.answer import add_dialect, around
from server.http.body import BodyReader
from server.http.context import CONTEXT, Context
from server.http.dialect import DIALECTS, Dialect, Dialects
from server.http.forwarded import Proxies
from server.model_options import store_folder
from server.opening import Opener
from server.operations.access_log import AccessLog
from server.operations.metrics import Metrics
from server.operations.shared_metrics import SharedMetrics
from server.operations.tls import Secured, tls_of
from server.pages import add_pages

CONTROL = web.AppKey("control", Control)
SECURED = web.AppKey("secured", Secured)


class Apps(NamedTuple):
    """What answers on each port.

    Attributes:
        main: on the service's own.
        ports: the others, and what answers there.
    """

    main: web.Application
    ports: Mapping[int, web.Application]


def make_apps(
    config: Config, bundles: Bundles, shared: SharedMetrics | None = None, models: ModelSet | None = None
) -> Apps:
    """Applications whose models are not loaded yet: `main[CONTROL].start()` does that.

    Args:
        config: of this process.
        bundles: of the command line.
        shared: where the figures of other workers are.
        models: to be served; None: the bundles.

    Raises:
        BundleError: a bundle cannot be served on this machine, or lacks the engine that is asked for.
    """
    parts = _parts(config, bundles, shared, models or ModelSet(tuple(bundles)))
    main = _app(parts.context, parts.classify)
    main[CONTROL] = parts.control
    for prefix in _prefixes(config):
        add_dialect(main, parts.classify, prefix)
        add_open_inference(main, parts.open_inference, prefix)
        add_pages(main, prefix)
    return Apps(main, {**_add_torch_serving(config, parts, main), **_torchserve(config, parts)})


def _add_torch_serving(config: Config, parts: _Parts, main: web.Application) -> dict[int, web.Application]:
    """Adds the API to the service's own port, or to one of its own, which is returned. Raises ModelError."""
    if "torch-serving" not in config.server.apis:
        return {}
    if not config.models.model_store:
        raise BundleError("--api torch-serving needs --model-store FOLDER, below which its models are")
    port = config.server.apis["torch-serving"]
    dialect = TorchServing(parts.on_demand, config.limits, parts.context.cpu_pool)
    app = main if port is None else _app(parts.context, dialect)
    for prefix in _prefixes(config):
        add_torch_serving(app, dialect, prefix)
    return {} if port is None else {port: app}


def _torchserve(config: Config, parts: _Parts) -> dict[int, web.Application]:
    """The applications of TorchServe's ports that workers answer, by port. Raises ConfigError."""
    given, context, metrics = config.torchserve, parts.context, parts.context.metrics.torchserve
    if metrics is None:
        return {}
    page = MetricsApi(context.metrics, given.metrics_mode == "prometheus")
    keys = key_file(given)
    dialect = TorchServe(context, parts.control, metrics, keys, page, parts.opener.archive_of)
    if keys:
        context.check_key = ArchiveKey(keys, context.store, parts.opener.archive_of).check
    inference, shown, tls = _app(context, dialect), _app(context, dialect), tls_of(given)
    is_shared = given.inference == given.management
    add_inference(inference, dialect, SharedPort(dialect.handle).handle if is_shared else dialect.handle)
    add_metrics(shown, page)
    for app, address in ((inference, given.inference), (shown, given.metrics)):
        add_common(app, given, metrics)
        if tls and address.is_tls:
            app[SECURED] = Secured(tls, HTTPS_ONLY, config.limits.header_timeout_s)
    return {given.inference.port: inference, given.metrics.port: shown}


def _prefixes(config: Config) -> set[str]:
    return {"", config.server.root_path}


def _app(context: Context, dialect: Dialect) -> web.Application:
    # aiohttp's own limit is out of the way: `BodyReader` bounds every body.
    app = web.Application(middlewares=[around], client_max_size=0)
    app[CONTEXT], app[DIALECTS] = context, Dialects(dialect)
    return app


class _Parts(NamedTuple):
    """What the applications share."""

    context: Context
    classify: Classify
    open_inference: OpenInference
    control: Control
    on_demand: OnDemand
    opener: Opener


def _most_waiting(config: Config) -> int:
    """Requests that wait in one worker for a model whose processes are being started."""
    most = config.torchserve.job_queue_size if config.torchserve.is_on else config.batching.queue_limit
    return math.ceil(most / max(1, config.server.workers))


def _parts(config: Config, bundles: Bundles, shared: SharedMetrics | None, models: ModelSet) -> _Parts:
    metrics = Metrics(shared, config.torchserve.is_on)
    threads = config.server.decode_threads or usable_cores()
    cpu_pool = CpuPool(threads, give_way, give_way_entirely, give_back_memory)
    opener, given, spares = Opener(config, bundles), config.models, Spares()
    capacity = Capacity(given.max_models, given.model_memory_mb * 1_000_000)
    deployer = Deployer(opener, cpu_pool, spares, metrics)
    room = Room(deployer.deploy, capacity, metrics, ModelMeter())
    store = ModelStore(opener.first(models), room, opener.release, _most_waiting(config))
    guard = Guard(store, store_folder(given), metrics.shadows, counts=config.management.is_on)
    proxies, log = Proxies(config.server.trusted_proxy, config.server.root_path), config.server
    access_log = (
        AccessLog(log.access_log_format, log.access_log_probes, proxies.client_of) if log.access_log else None
    )
    bodies = BodyReader(config.limits)
    context = Context(config, store, metrics, cpu_pool, spares, bodies, proxies, access_log)
    classify = Classify(store, UploadParser(config.limits, cpu_pool))
    open_inference = OpenInference(store, config.limits, cpu_pool)
    control = Control(
        store,
        opener.open,
        models,
        guard,
        given.engine_processes,
        max(1, config.server.workers),
        revives=config.torchserve.is_on,
    )
    return _Parts(context, classify, open_inference, control, OnDemand(opener.open_file, room), opener)
