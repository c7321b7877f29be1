"""How the machine is divided among workers."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

from models.bundles.bare import KIND as BARE
from models.machine.resources import card_memory, usable_cores, usable_memory
from runtime.sources import Bundles
from server.config import Config
from server.operations.descriptors import MOST_CONNECTIONS, connections_within, limit

log = logging.getLogger("snapserve")

MEMORY_PER_WORKER = 1_000_000_000  # bytes; torch with a ResNet18 takes 0.4 to 0.8 GB
# Proportional set sizes with torch 2.15 on a CPU: a process with ResNet18 0.25 to 0.29 GB, with ResNet50 0.39 to
# 0.48; the one that they are forked from 0.13 to 0.18.
MEMORY_PER_ENGINE_PROCESS = 500_000_000
MEMORY_OF_SPARE = 200_000_000
# Not measured, and generous: the driver's context takes about half a gigabyte of the card, torch's libraries for
# CUDA one to two gigabytes of the host.
CARD_MEMORY_PER_WORKER = 2_000_000_000
MEMORY_PER_CUDA_WORKER = 3_000_000_000


def plan(
    config: Config,
    bundles: Bundles,
    cores: int | None = None,
    memory: int | None = None,
    on_card: int | None = None,
    descriptors: int | None = None,
) -> Config:
    """Settles everything about workers that was left to us.

    On a CPU there is one worker per core, with one thread for its engines and one that decodes: measured in
    docs/performance.md; fewer where the memory is small, in which the processes of its engines count. On a GPU
    likewise, also as far as its own memory allows: decoding and HTTP take the time, and one process can use no
    more than about three cores for them (docs/gpu.md).

    Args:
        config: as it was given.
        bundles: that will be served.
        cores: to divide; None: those that this process may run on.
        memory: in bytes, likewise.
        on_card: the card's memory in bytes; None: what the driver says.
        descriptors: of each process; None: what its limit says.

    Returns:
        The configuration of the whole service, without an "auto" among its workers, threads and connections.
    """
    cores = cores or usable_cores()
    default = 1 if config.torchserve.is_on else 0  # its models are changed by clients, and engines have processes
    workers = (
        config.server.workers
        or default
        or _one_per_core(cores, memory, _runs_on_gpu(config, bundles), on_card, engine_processes(config, bundles))
    )
    limits: dict[str, object] = {"max_connections": _connections(config, workers, descriptors or limit())}
    if workers == 1:
        server: dict[str, object] = {"workers": 1, "decode_threads": config.server.decode_threads or cores}
        return _with(config, limits=limits, server=server)
    share = max(1, cores // workers)
    return _with(
        config,
        limits=limits,
        models={"intra_op_threads": config.models.intra_op_threads or share},
        server={"workers": workers, "decode_threads": config.server.decode_threads or share},
    )


def _one_per_core(cores: int, memory: int | None, is_on_gpu: bool, on_card: int | None, processes: int) -> int:
    memory = memory or usable_memory()
    fit = cores if memory is None else memory // memory_per_worker(is_on_gpu, processes)
    if is_on_gpu:
        fit = min(fit, (on_card or card_memory() or 0) // (CARD_MEMORY_PER_WORKER * max(1, processes)))
    return max(1, min(cores, fit))


def memory_per_worker(is_on_gpu: bool, processes: int) -> int:
    """Bytes of a worker and of so many processes of its engines."""
    own, each = (
        (MEMORY_PER_CUDA_WORKER, MEMORY_PER_CUDA_WORKER)
        if is_on_gpu
        else (MEMORY_PER_WORKER, MEMORY_PER_ENGINE_PROCESS)
    )
    return own + processes * each + (MEMORY_OF_SPARE if processes else 0)


def engine_processes(config: Config, bundles: Bundles) -> int:
    """Processes of a worker that load engines."""
    given = config.models
    kinds = [bundle.spec.engine.kind for bundle in bundles.values()]
    engines = {"thread": 0, "process": len(kinds), "auto": kinds.count(BARE)}[given.runner]
    return engines * (given.engine_processes + given.engine_spares)


def _connections(config: Config, workers: int, descriptors: int) -> int:
    """Most connections of the service: as asked for, and as the descriptors of its processes allow."""
    each = connections_within(descriptors)
    asked = config.limits.max_connections
    if asked > workers * each:
        log.warning(
            "--max-connections %d: only %d, because a process may have %d descriptors (`ulimit -n`)",
            *(asked, workers * each, descriptors),
        )
    return min(asked or workers * MOST_CONNECTIONS, workers * each)


def share_of(config: Config) -> Config:
    """The configuration of one worker: its part of what bounds the service as a whole."""
    workers = config.server.workers
    decode_memory = config.limits.decode_memory_mb
    return _with(
        config,
        models={"model_memory_mb": math.ceil(config.models.model_memory_mb / workers)},
        batching={"queue_limit": math.ceil(config.batching.queue_limit / workers)},
        limits={
            "max_connections": math.ceil(config.limits.max_connections / workers),
            "max_upload_memory_mb": max(1.0, config.limits.max_upload_memory_mb / workers),
            "decode_memory_mb": decode_memory and max(1, decode_memory // workers),
        },
    )


def _with(config: Config, **sections: dict[str, object]) -> Config:
    changed = {name: dataclasses.replace(getattr(config, name), **values) for name, values in sections.items()}
    return dataclasses.replace(config, **changed)


def _runs_on_gpu(config: Config, bundles: Bundles) -> bool:
    """Without asking torch, which takes seconds to import: the supervisor never does."""
    if config.models.device != "auto":
        return config.models.device == "cuda"
    card = any(Path("/dev").glob("nvidia[0-9]*"))
    return card and any(bundle.spec.engine.device in ("any", "cuda") for bundle in bundles.values())
