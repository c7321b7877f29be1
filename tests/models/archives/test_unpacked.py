"""Unpacked archives do not outlive the process that has unpacked them, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.archives import unpacked
from models.archives.open import open_archive
from models.errors import ArchiveError
from models.machine.locked_folder import join_folder, leave_folder
from tests.models.archives.hostile import zipped

ROOT = Path(__file__).parents[3]
OPEN = """
import os, sys
from pathlib import Path
from models.archives.open import open_archive
from models.archives.unpacked import unpack_with
if sys.argv[3:]:
    unpack_with(sys.argv[3])
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


def process(archive, how, *group):
    """A process that has opened it, and the folder there."""
    started = subprocess.Popen(
        [sys.executable, "-c", OPEN, str(archive), how, *group],
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


def test_processes_of_one_server_share_what_the_first_has_unpacked_until_the_last_has_ended(archive):
    others = [process(archive, "wait", "a server") for _ in range(4)]
    (shared,) = {folder for _, folder in others}
    alone, own = process(archive, "wait", "another server")
    assert own != shared and own.exists()
    alone.communicate()
    assert not own.exists()
    for number, (each, _) in enumerate(others):
        assert (shared / "MAR-INF/MANIFEST.json").exists()
        if number % 2 == 0:
            each.send_signal(signal.SIGKILL)
        each.communicate()
    assert list((archive.parent / "temporary").iterdir()) == []


def test_a_process_that_is_killed_while_it_unpacks_leaves_it_to_the_next(archive):
    shared = process(archive, "wait", "a server")
    shared[0].send_signal(signal.SIGKILL)
    shared[0].communicate()
    (shared[1].parent / "filled").unlink()  # as far as it had come
    (shared[1] / "MAR-INF/MANIFEST.json").unlink()
    again, folder = process(archive, "wait", "a server")
    assert folder == shared[1] and (folder / "MAR-INF/MANIFEST.json").exists()
    again.communicate()
    assert not folder.exists()


def test_an_archive_that_was_replaced_is_unpacked_anew(archive):
    first = open_archive(archive)
    assert open_archive(archive).folder == first.folder
    archive.unlink()
    zipped(archive, "x")
    assert open_archive(archive).folder != first.folder


def test_a_folder_that_is_removed_while_another_process_enters_it_is_made_again(tmp_path):
    path, seen = tmp_path / "x", []

    def fill(folder):
        assert list(folder.iterdir()) == []
        seen.append(folder)
        if len(seen) == 1:
            raise ArchiveError("no")

    with pytest.raises(ArchiveError):
        join_folder(path, fill)
    assert not path.exists()
    (path / "content").mkdir(parents=True)  # of a process that was killed
    first, second = join_folder(path, fill), join_folder(path, fill)
    assert len(seen) == 2, "the second one finds it"
    leave_folder(first)
    assert path.exists()
    leave_folder(second)
    assert not path.exists()


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


JOINERS, ROUNDS = 4, 100


def test_processes_that_come_together_all_get_in(tmp_path):
    """Each has its own descriptor, so that locks are between threads as they are between processes."""
    together, inside, filled = threading.Barrier(JOINERS), threading.Barrier(JOINERS), []

    def fill(path):
        filled.append(path)
        (path / "content").write_text("whole")

    def come_and_go():
        for number in range(ROUNDS):
            together.wait(30)
            folder = join_folder(tmp_path / f"shared-{number}", fill)
            assert (folder.path / "content").read_text() == "whole"
            inside.wait(30)
            leave_folder(folder)

    with ThreadPoolExecutor(JOINERS) as threads:
        for each in [threads.submit(come_and_go) for _ in range(JOINERS)]:
            each.result(60)
    assert len(filled) == ROUNDS, "one fills it for all"
    assert list(tmp_path.iterdir()) == []
