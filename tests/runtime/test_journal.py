"""The journal is the old set or the new one, whole, whatever happens."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.added_model import ARCHIVE, AddedModel, ArchiveAsked
from runtime.journal import Journal, JournalError, read_journal
from runtime.model_set import ModelSet

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


def test_reading_alone_takes_no_lock_and_writes_nothing(journal):
    journal.write(ONE)
    before = sorted(journal.file.parent.iterdir())
    assert read_journal(journal.file, FIXED) == ONE
    assert read_journal(journal.file.with_name("none"), FIXED) == ModelSet(FIXED)
    assert sorted(journal.file.parent.iterdir()) == before


def test_what_was_written_is_read(journal):
    journal.write(ONE)
    journal.write(TWO)
    assert journal.read(FIXED) == TWO
    assert {file.name for file in journal.file.parent.iterdir()} == {"models.json", "models.json.lock"}
    assert journal.file.stat().st_mode & 0o077 == 0


def test_workers_that_were_being_started_are_not_there_after_a_start(journal):
    idle = ONE.with_model(AddedModel("c", "1", "c.mar", kind=ARCHIVE, archive=ArchiveAsked()))
    journal.write(idle.starting("c", "1", 2))
    (_, read) = journal.read(FIXED).added
    assert (read.archive.min_workers, read.is_starting) == (0, False), "what was to start them is no more"


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
import os, signal, sys
import runtime.journal
from pathlib import Path
from runtime.journal import Journal
from runtime.added_model import AddedModel
from runtime.model_set import ModelSet
journal, deadly = Journal(Path(sys.argv[1])), sys.argv[2]
models = journal.read(("a",))
def dying(call):
    def die(*words):
        os.kill(os.getpid(), signal.SIGKILL)
    return die
if deadly == "write":
    runtime.journal.to_json = dying(None)
if deadly == "fsync":
    os.fsync = dying(os.fsync)
if deadly == "replace":
    Path.replace = dying(Path.replace)
if deadly == "after":
    journal._sync_folder = dying(None)
while True:
    if "2" in models.versions("a"):
        models = models.with_default("a", "1").without("a", "2")
    else:
        # So long that a write takes many pages.
        many = ModelSet(("a",), tuple(AddedModel("b", str(n), "x" * 999) for n in range(200)))
        models = many.with_model(AddedModel("a", "2", "x")).with_default("a", "2")
    journal.write(models)
    print("written", flush=True)
"""


def killed(file, deadly, writes):
    """What a process leaves that is killed at a step of a write, or after so many writes, wherever it is then."""
    command = [sys.executable, "-c", WRITER, str(file), deadly]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
        for _ in range(writes):
            writer.stdout.readline()
        if writes:
            writer.kill()
    assert writer.returncode == -signal.SIGKILL
    journal = Journal(file)  # the lock went with the process
    models = journal.read(FIXED)
    journal.close()
    assert models.default_of("a") == models.versions("a")[-1], "both parts of a change, or none"
    return models.versions("a")


@pytest.mark.parametrize(
    ("deadly", "after"), [("write", ("1",)), ("fsync", ("1",)), ("replace", ("1",)), ("after", ("1", "2"))]
)
def test_a_process_that_is_killed_at_a_step_of_a_write_leaves_the_set_before_or_after(tmp_path, deadly, after):
    assert killed(tmp_path / "models.json", deadly, 0) == after


def test_processes_that_are_killed_in_the_middle_of_many_changes_leave_the_set_before_or_after(tmp_path):
    seen = [killed(tmp_path / "models.json", "no", number % 3 + 1) for number in range(20)]
    assert set(seen) <= {("1",), ("1", "2")}
