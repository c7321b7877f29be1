"""Figures that processes share: a file system that fills up leaves out new ones and ends no process."""

from __future__ import annotations

import errno
import os

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from server.operations import shared_metrics
from server.operations.metrics import Metrics
from server.operations.shared_folder import allocate
from server.operations.shared_metrics import SharedMetrics, _AllocatedDict, make_metrics_folder

SIZE = 1 << 16


def key(name):
    return mmap_key(f"{name}_total", f"{name}_total", ["x"], ["y" * 100], "help")


def fill(values, count, first=0):
    for number in range(first, first + count):
        values.read_value(key(f"n{number}"))
        values.write_value(key(f"n{number}"), float(number), 0.0)


def reported(file):
    return {each: value for each, value, _, _ in MmapedDict.read_all_values_from_file(str(file))}


@pytest.fixture
def opened():
    """Opens files of values, and closes them with the test."""
    made = []

    def open_file(path):
        made.append(_AllocatedDict(str(path)))
        return made[-1]

    yield open_file
    for each in made:
        each.close()


@pytest.fixture
def no_room(monkeypatch):
    def fails(descriptor, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(shared_metrics, "allocate", fails)


def test_a_file_has_its_room_from_the_start_and_when_it_grows(tmp_path, opened):
    file = tmp_path / "counter_0.db"
    values = opened(file)
    for count in (1, 1000):
        fill(values, count)
        assert file.stat().st_blocks * 512 >= file.stat().st_size
    assert file.stat().st_size > SIZE
    assert reported(file) == {key(f"n{number}"): float(number) for number in range(1000)}


def test_a_file_that_cannot_grow_keeps_what_it_has_and_leaves_out_the_rest(tmp_path, opened, no_room, caplog):
    file = tmp_path / "counter_0.db"
    values = opened(file)
    no_room()
    fill(values, 1000)
    fill(values, 5)  # what is there goes on counting
    kept = reported(file)
    assert 100 < len(kept) < 1000
    assert kept == {key(f"n{number}"): float(number) for number in range(len(kept))}
    assert file.stat().st_size == SIZE
    assert caplog.messages == ["no room for more metrics (No space left on device): new ones are not reported"]
    values.close()
    assert reported(file) == kept


@pytest.mark.parametrize("size", range(SIZE - 60, SIZE + 60, 7))
def test_the_place_of_what_is_left_out_is_never_that_of_a_value(tmp_path, opened, no_room, size):
    """Files that are full up to the last bytes."""
    file = tmp_path / "counter_0.db"
    values = opened(file)
    fill(values, 200)
    last = "k" * (size - values._used - 24)
    values.read_value(last)
    values.write_value(last, 7.0, 0.0)
    no_room()
    fill(values, 10, first=200)
    assert reported(file) == {**{key(f"n{number}"): float(number) for number in range(200)}, last: 7.0} | {
        each: value for each, value in reported(file).items() if value >= 200
    }


def test_a_process_that_finds_no_room_for_its_file_goes_on_without(tmp_path, opened, no_room, caplog):
    no_room()
    values = opened(tmp_path / "counter_0.db")
    fill(values, 1000)
    assert values.read_value(key("n7")) == (7.0, 0.0)
    assert "its metrics are not reported" in caplog.messages[0]


def test_a_worker_that_ended_is_in_no_gauge_and_its_files_keep_their_room(tmp_path, opened):
    for name in ("gauge_livesum_0", "gauge_livesum_1", "counter_0"):
        fill(opened(tmp_path / f"{name}.db"), 3)
    shared = SharedMetrics(tmp_path, "supervisor")
    shared.forget_gauges("0")
    assert reported(tmp_path / "gauge_livesum_0.db") == {}
    assert (tmp_path / "gauge_livesum_0.db").stat().st_blocks * 512 >= SIZE
    assert len(reported(tmp_path / "gauge_livesum_1.db")) == len(reported(tmp_path / "counter_0.db")) == 3
    fill(opened(tmp_path / "gauge_livesum_0.db"), 2)
    assert len(reported(tmp_path / "gauge_livesum_0.db")) == 2


def test_files_that_nobody_has_written_to_yet_report_nothing(tmp_path):
    with (tmp_path / "counter_0.db").open("wb") as file:
        allocate(file.fileno(), SIZE)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))
    assert list(registry.collect()) == []


def test_the_folder_has_a_file_for_every_kind_of_metric_of_every_process():
    folder = make_metrics_folder(2)
    try:
        files = {file.stem for file in folder.path.iterdir()}
    finally:
        folder.remove()
        os.close(folder.lock)
    metrics = [each for each in Metrics(torchserve=True).registry._collector_to_names if hasattr(each, "_type")]
    kinds = {"_".join(filter(None, (each._type, getattr(each, "_multiprocess_mode", "")))) for each in metrics}
    assert files == {f"{kind}_{member}" for kind in kinds for member in ("supervisor", "0", "1")}
