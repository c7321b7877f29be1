"""Which snapshot is the newest."""

from __future__ import annotations

import pytest

from runtime.added_model import ARCHIVE, AddedModel, ArchiveAsked
from runtime.model_set import ModelSet
from server.config import Config, TorchServeConfig
from server.torchserve.settings import SNAPSHOT, read_file
from server.torchserve.snapshots import SHUTDOWN, Snapshots, newest, remembered


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(Config(torchserve=TorchServeConfig(torchserve=True, log_location=tmp_path)))


def with_archive(**asked):
    return ModelSet(("a",)).with_model(AddedModel("c", "1", "c.mar", kind=ARCHIVE, archive=ArchiveAsked(**asked)))


def remembered_in(folder):
    file = newest(folder)
    return [(each.key, each.archive) for each in remembered(read_file(file)[SNAPSHOT], file).models]


@pytest.mark.parametrize("count", [1, 10])
def test_the_last_one_that_was_written_is_the_newest_though_the_clock_was_ahead_once(tmp_path, snapshots, count):
    folder = tmp_path / "config"
    folder.mkdir()
    for number in range(count):
        (folder / f"20990101000000{number:03d}-snapshot.cfg").write_text("model_snapshot={}\n")
    for workers in (1, 2):
        snapshots.write(with_archive(min_workers=workers, max_workers=2), SHUTDOWN)
        ((key, asked),) = remembered_in(folder)
        assert (key, asked.min_workers) == (("c", "1"), workers)
    assert len(list(folder.glob("*.cfg"))) == min(10, count + 2)


def test_a_start_gives_an_archive_the_workers_that_were_being_started(tmp_path, snapshots):
    snapshots.write(with_archive().starting("c", "1", 2))
    ((_, asked),) = remembered_in(tmp_path / "config")
    assert (asked.min_workers, asked.is_starting) == (2, False)
