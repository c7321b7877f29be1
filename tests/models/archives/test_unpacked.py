"""Unpacked archives do not outlive the process that has unpacked them, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from models.archives import unpacked
from models.archives.open import open_archive
from models.errors import ArchiveError
from tests.models.archives.hostile import zipped

ROOT = Path(__file__).parents[3]
OPEN = """
import os, sys
from pathlib import Path
from models.archives.open import open_archive
kept = open_archive(Path(sys.argv[1]))
print(kept.folder, flush=True)
if sys.argv[2] == "fork" and not os.fork():
    sys.exit()
if sys.argv[2] == "wait":
    sys.stdin.read()
if sys.argv[2] == "fork":
    os.wait()
    print(kept.folder.exists())
"""


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return zipped(tmp_path / "a.mar", "x")


def process(archive, how):
    """A process that has opened it, and the folder there."""
    started = subprocess.Popen(
        [sys.executable, "-c", OPEN, str(archive), how],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(archive.parent / "temporary")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return started, Path(started.stdout.readline().strip())


def test_a_process_that_was_killed_leaves_a_folder_that_the_next_one_removes(archive):
    (first, dead), (second, alive) = process(archive, "wait"), process(archive, "wait")
    assert dead.exists() and alive.exists() and dead != alive
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert dead.exists()
    mine = open_archive(archive)
    assert not dead.exists() and alive.exists() and mine.folder.exists()
    second.communicate()
    assert not alive.exists(), "a process that ends removes its own"


def test_a_process_that_was_forked_removes_nothing(archive):
    started, _ = process(archive, "fork")
    said, _ = started.communicate()
    assert said.strip() == "True"


def test_an_archive_that_does_not_fit_on_the_disk_is_refused(archive, monkeypatch):
    usage = unpacked.shutil.disk_usage(archive.parent)._replace(free=unpacked._RESERVE + 10)
    monkeypatch.setattr(unpacked.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArchiveError, match=r"a\.mar: unpacks to \d+ bytes, but .* has room for 10$"):
        open_archive(archive)
    assert list((archive.parent / "temporary").iterdir()) == []


@pytest.mark.parametrize("how", ["released", "forgotten"])
def test_an_archive_that_is_no_longer_needed_leaves_nothing(archive, how):
    kept = open_archive(archive)
    folder, before = kept.folder, set(threading.enumerate())
    assert folder.exists()
    if how == "released":
        kept.release()
        kept.release()
    else:
        del kept
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert list((archive.parent / "temporary").iterdir()) == []
