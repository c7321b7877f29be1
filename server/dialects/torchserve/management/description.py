"""One version of a model, as GET /models/MODEL describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple

import psutil

from models.archives.config import ArchiveConfig
from runtime.added_model import ArchiveAsked
from server.dialects.torchserve.management.other_models import AnyShown
from server.dialects.torchserve.management.worker_numbers import Numbered

NOT_STARTED = -1  # in the place of a process id
_LOADED = "loaded"
_RETRY_S = 300


class Observed(NamedTuple):
    """The state of a version in the processes of the server.

    Attributes:
        pids: of its workers; `NOT_STARTED` of one that does not run.
        queued: requests that wait for it.
    """

    pids: list[int]
    queued: int = 0


def observed(
    model: AnyShown, status: Mapping[int, Sequence[Mapping[str, Any]]], pids: Mapping[int, int]
) -> Observed:
    """Sums up what each process of the server says.

    Args:
        model: that is described.
        status: of the versions in each process.
        pids: of those processes, in which engines on threads are.
    """
    told = [
        (process, each)
        for process, versions in sorted(status.items())
        for each in versions
        if (each["name"], each["version"]) == model.key
    ]
    most = model.processes_in(max(1, len(told))) if model.archive else None
    found = [pid for process, each in told for pid in _pids_of(each, pids.get(process, NOT_STARTED), most)]
    return Observed(found, sum(each["queued"] for _, each in told))


def _pids_of(told: Mapping[str, Any], process: int, most: int | None) -> list[int]:
    """Of the processes of an engine; one on a thread is in a process of the server. most: None for all."""
    if told["state"] != _LOADED:
        return []
    found: list[int] = told["pids"]
    return found[:most] if found else [process] * (1 if most is None else most)


def description(
    model: AnyShown,
    asked: ArchiveAsked,
    yaml: ArchiveConfig,
    numbered: Sequence[Numbered],
    seen: Observed,
    facts: Facts,
) -> dict[str, Any]:
    """The object of one version, with TorchServe's keys in its order.

    Args:
        model: the version.
        asked: how it is run.
        yaml: what its archive asks for.
        numbered: its workers.
        seen: what is known of them.
        facts: the same for all archives.
    """
    queue = yaml.job_queue_size or facts.job_queue_size
    return {
        "modelName": model.name,
        "modelVersion": model.version,
        "modelUrl": asked.url or model.path,
        "runtime": "python",
        "minWorkers": asked.min_workers,
        "maxWorkers": asked.max_workers,
        "batchSize": asked.batch_size,
        "maxBatchDelay": asked.max_batch_delay_ms,
        "responseTimeout": asked.response_timeout_s,
        "startupTimeout": asked.startup_timeout_s,
        "maxRetryTimeoutInSec": _RETRY_S if yaml.max_retry_timeout_s is None else yaml.max_retry_timeout_s,
        "clientTimeoutInMills": yaml.client_timeout_ms or 0,
        "parallelType": "",
        "parallelLevel": 0,
        "deviceType": yaml.device_type or facts.device,
        "continuousBatching": False,
        "useJobTicket": bool(yaml.use_job_ticket),
        "useVenv": False,
        "stateful": False,
        "sequenceMaxIdleMSec": 0,
        "sequenceTimeoutMSec": 0,
        "maxNumSequence": 0,
        "maxSequenceJobQueueSize": 0,
        "loadedAtStartup": asked.is_loaded_at_start,
        "workers": list(_workers(numbered, seen.pids)),
        "jobQueueStatus": {"remainingCapacity": max(0, queue - seen.queued), "pendingRequests": seen.queued},
    }


class Facts(NamedTuple):
    """What is the same for all archives.

    Attributes:
        device: "cpu" or "gpu".
        job_queue_size: most requests that wait, where an archive sets none.
    """

    device: str
    job_queue_size: int


def _workers(numbered: Sequence[Numbered], pids: Sequence[int]) -> Iterator[dict[str, Any]]:
    for worker, pid in zip_longest(numbered, pids[: len(numbered)], fillvalue=NOT_STARTED):
        assert isinstance(worker, Numbered) and isinstance(pid, int)
        yield {
            "id": str(worker.number),
            "startTime": _time(worker.since),
            "status": "UNLOADING" if pid == NOT_STARTED else "READY",
            "memoryUsage": _memory(pid),
            "pid": pid,
            "gpu": False,
            "gpuUsage": "N/A",
        }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _memory(pid: int) -> int:
    """Resident bytes of a process; 0 of one that does not run."""
    try:
        return 0 if pid == NOT_STARTED else int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
