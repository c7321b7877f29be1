"""How the machine is divided among workers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from models.machine import usable_cores, usable_memory
from server.catalog import Bundles
from server.config import Config

MEMORY_PER_WORKER = 1_000_000_000  # bytes; torch with a ResNet18 takes 0.4 to 0.8 GB


def plan(config: Config, bundles: Bundles, cores: int | None = None, memory: int | None = None) -> Config:
    """Settles everything about workers that was left to us.

    On a CPU there is one worker per core, with one thread for its engines and one that decodes: measured in
    docs/performance.md; fewer where the memory is small. On a GPU there is one, until more were measured there.

    Args:
        config: as it was given.
        bundles: that will be served.
        cores: to divide; None: those that this process may run on.
        memory: in bytes, likewise.

    Returns:
        The configuration of the whole service, without an "auto" among its workers and threads.
    """
    cores = cores or usable_cores()
    workers = config.server.workers or (1 if _runs_on_gpu(config, bundles) else _one_per_core(cores, memory))
    if workers == 1:
        return _with(config, server={"workers": 1, "decode_threads": config.server.decode_threads or cores})
    share = max(1, cores // workers)
    return _with(
        config,
        models={"intra_op_threads": config.models.intra_op_threads or share},
        server={"workers": workers, "decode_threads": config.server.decode_threads or share},
    )


def _one_per_core(cores: int, memory: int | None) -> int:
    memory = memory or usable_memory()
    return cores if memory is None else max(1, min(cores, memory // MEMORY_PER_WORKER))


def share_of(config: Config) -> Config:
    """The configuration of one worker: its part of what bounds the service as a whole."""
    workers = config.server.workers
    return _with(
        config,
        batching={"queue_limit": math.ceil(config.batching.queue_limit / workers)},
        limits={"max_upload_memory_mb": max(1.0, config.limits.max_upload_memory_mb / workers)},
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
