"""Who has the last word on how an archive is run."""

from __future__ import annotations

import pytest

from models.archives.config import ArchiveConfig, read_config
from runtime.added_model import ArchiveAsked
from runtime.archive_settings import ArchiveWishes, Registered, settled

DEFAULTS = ArchiveAsked(
    batch_size=1,
    max_batch_delay_ms=100,
    response_timeout_s=120,
    startup_timeout_s=120,
    min_workers=0,
    max_workers=0,
)
YAML = {
    "minWorkers": 1,
    "maxWorkers": 3,
    "batchSize": 4,
    "maxBatchDelay": 300,
    "responseTimeout": 7,
    "startupTimeout": 9,
    "mine": {"batchSize": "any"},
}
WISHES = ArchiveWishes("h.py", 2, 0, 99, 98, 2, 5, True)


def test_without_wishes_and_yaml_there_are_defaults():
    assert settled(ArchiveWishes(), ArchiveConfig()) == DEFAULTS
    assert settled(ArchiveWishes(), ArchiveConfig(), workers=2).min_workers == 2


def test_the_yaml_counts_where_the_request_says_nothing():
    assert settled(ArchiveWishes(), read_config(YAML, "m")) == ArchiveAsked("", 4, 300, 7, 9, 1, 3)


def test_the_request_decides_on_batches_and_the_yaml_on_time_limits_and_processes():
    assert settled(WISHES, read_config(YAML, "m")) == ArchiveAsked("h.py", 2, 0, 7, 9, 1, 3, True)
    assert settled(WISHES, ArchiveConfig()) == ArchiveAsked("h.py", 2, 0, 99, 98, 2, 5, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("minWorkers", "1"), ("batchSize", 0), ("batchSize", True), ("maxBatchDelay", 1.5), ("useJobTicket", 1)],
)
def test_a_value_of_a_wrong_type_is_ignored_with_a_line(caplog, key, value):
    assert read_config({key: value}, "m") == ArchiveConfig()
    (line,) = caplog.messages
    assert line.startswith(f"model archive m: {key} is ignored: it must be ")


def test_keys_without_effect_are_named(caplog):
    read_config({"torchrun": {"nproc-per-node": 2}, "parallelType": "pp"}, "m")
    assert [line.split()[3] for line in caplog.messages] == ["parallelType", "torchrun"]


def test_with_job_tickets_nothing_waits():
    assert Registered(DEFAULTS, ArchiveConfig()).most_waiting == 100
    assert Registered(DEFAULTS, ArchiveConfig(job_queue_size=2)).most_waiting == 2
    assert Registered(DEFAULTS, ArchiveConfig(job_queue_size=2, use_job_ticket=True)).most_waiting == 0
