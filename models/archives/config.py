"""The keys of an archive's YAML file that are a server's business, typed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("snapserve")

_DAY_S = 86_400


@dataclass(frozen=True)
class ArchiveConfig:
    """The settings of an archive; None: not given.

    Attributes:
        min_workers: processes that run.
        max_workers: processes that may be asked for.
        batch_size: most requests that a handler gets at once.
        max_batch_delay_ms: longest wait for a batch to fill.
        response_timeout_s: longest time for a batch.
        startup_timeout_s: longest time to load.
        client_timeout_ms: longest time of a request, waiting included; 0: no limit.
        job_queue_size: most requests that wait.
        use_job_ticket: requests are refused while all processes are busy.
        max_retry_timeout_s: time after which a process that does not start again counts as ill.
        device_type: "cpu" or "gpu".
    """

    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    client_timeout_ms: int | None = None
    job_queue_size: int | None = None
    use_job_ticket: bool | None = None
    max_retry_timeout_s: int | None = None
    device_type: str | None = None


# key -> field, least and greatest value
_NUMBERS = {
    "minWorkers": ("min_workers", 0, 64),
    "maxWorkers": ("max_workers", 0, 64),
    "batchSize": ("batch_size", 1, 1024),
    "maxBatchDelay": ("max_batch_delay_ms", 0, 3_600_000),
    "responseTimeout": ("response_timeout_s", 1, _DAY_S),
    "startupTimeout": ("startup_timeout_s", 1, _DAY_S),
    "clientTimeoutInMills": ("client_timeout_ms", 0, _DAY_S * 1000),
    "jobQueueSize": ("job_queue_size", 1, 1_000_000),
    "maxRetryTimeoutInSec": ("max_retry_timeout_s", 0, _DAY_S),
}
_DEVICES = ("cpu", "gpu")
_WITHOUT_EFFECT = ("deviceIds", "parallelType", "parallelLevel", "torchrun", "useVenv", "continuousBatching",
                   "sequenceBatching", "asyncCommunication")  # fmt: skip


def read_config(document: Mapping[str, Any], name: str) -> ArchiveConfig:
    """The known keys of a YAML document. A value of a wrong type is ignored, with a line in the log.

    Args:
        document: of the whole file.
        name: of the model, for the log.
    """
    values: dict[str, Any] = {}
    for key, (field, low, high) in _NUMBERS.items():
        if key in document:
            value = document[key]
            if type(value) is int and low <= value <= high:
                values[field] = value
            else:
                _ignored(name, key, f"must be a whole number between {low} and {high}")
    if "useJobTicket" in document:
        if isinstance(document["useJobTicket"], bool):
            values["use_job_ticket"] = document["useJobTicket"]
        else:
            _ignored(name, "useJobTicket", "must be true or false")
    if "deviceType" in document:
        if document["deviceType"] in _DEVICES:
            values["device_type"] = document["deviceType"]
        else:
            _ignored(name, "deviceType", f"must be one of {', '.join(_DEVICES)}")
    for key in _WITHOUT_EFFECT:
        if document.get(key):
            _ignored(name, key, "has no effect on this server")
    return ArchiveConfig(**values)


def _ignored(name: str, key: str, rule: str) -> None:
    log.warning("model archive %s: %s is ignored: it %s", name, key, rule)
