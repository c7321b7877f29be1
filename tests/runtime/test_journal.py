"""The journal is the old set or the new one, whole, whatever happens."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.journal import Journal, JournalError
from runtime.model_set import AddedModel, ModelSet

FIXED = ("a",)
ONE = ModelSet(FIXED).with_model(AddedModel("a", "2", "x"))
TWO = ONE.with_default("a", "2")


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "models.json")
    yield made
    made.close()


def test_without_a_journal_the_command_line_is_served(journal):
    assert journal.read(FIXED) == ModelSet(FIXED)
    assert not journal.file.exists(), "reading writes nothing"


def test_what_was_written_is_read(journal):
    journal.write(ONE)
    journal.write(TWO)
    assert journal.read(FIXED) == TWO
    assert {file.name for file in journal.file.parent.iterdir()} == {"models.json", "models.json.lock"}
    assert journal.file.stat().st_mode & 0o077 == 0


def whole(tmp_path):
    journal = Journal(tmp_path / "whole.json")
    journal.write(ONE)
    journal.close()
    return journal.file.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-20],
        lambda data: data[: len(data) // 2],
        lambda data: b'{"format": "models"}\n',
        lambda data: data.replace(b"models 1", b"models 9"),
        lambda data: data.replace(b'"version"', b'"verschon"'),
        lambda data: bytes(4096),
        lambda data: data + b"x",
    ],
)
def test_a_journal_that_is_damaged_or_not_ours_is_named_and_stays(journal, tmp_path, damage):
    data = damage(whole(tmp_path))
    journal.file.write_bytes(data)
    with pytest.raises(JournalError, match=str(journal.file)):
        journal.read(FIXED)
    assert journal.file.read_bytes() == data


def test_a_journal_that_cannot_be_read_or_whose_folder_is_missing_is_named(journal, tmp_path):
    journal.file.mkdir()
    with pytest.raises(JournalError, match="Is a directory"):
        journal.read(FIXED)
    with pytest.raises(JournalError, match="No such file"):
        Journal(tmp_path / "nowhere" / "models.json")


def test_a_second_server_does_not_get_the_journal_until_the_first_has_ended(journal):
    with pytest.raises(JournalError, match="another server"):
        Journal(journal.file)
    other = Journal(journal.file.with_name("other.json"))
    other.close()


def test_without_room_the_journal_is_as_before(journal, monkeypatch):
    journal.write(ONE)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalError, match="No space left"):
        journal.write(TWO)
    assert journal.read(FIXED) == ONE


def test_the_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after(journal, monkeypatch):
    steps, replace, fsync = [], Path.replace, os.fsync
    monkeypatch.setattr(Path, "replace", lambda *words: (steps.append("replace"), replace(*words)))
    monkeypatch.setattr(os, "fsync", lambda number: (steps.append("fsync"), fsync(number)))
    journal.write(ONE)
    assert steps == ["fsync", "replace", "fsync"]


WRITER = """
import sys
from pathlib import Path
from runtime.journal import Journal
from runtime.model_set import AddedModel, ModelSet
journal = Journal(Path(sys.argv[1]))
models, number = journal.read(("a",)), 0
while True:
    number += 1
    if models.find("a", "2") if "2" in models.versions("a") else None:
        models = models.with_default("a", "1").without("a", "2")
    else:
        # So long that a write takes many pages.
        models = models.with_model(AddedModel("a", "2", "x", labels="l" * 1000)).with_default("a", "2")
    journal.write(models)
    print(number, flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_the_set_before_or_after(tmp_path):
    """Twenty processes, each killed after another number of changes, at whatever place it is then."""
    file, seen = tmp_path / "models.json", set()
    for number in range(20):
        command = [sys.executable, "-c", WRITER, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
            for _ in range(number % 5 + 1):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        journal = Journal(file)  # the lock went with the process
        models = journal.read(FIXED)
        journal.close()
        seen.add(models.versions("a"))
        assert models.default_of("a") == models.versions("a")[-1], "both parts of a change, or none"
    assert seen == {("1",), ("1", "2")}
