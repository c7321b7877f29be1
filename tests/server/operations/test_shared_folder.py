"""The files that processes share have their room from the start, and are removed after any end of their owner."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from models.machine import locked_folder
from models.machine.locked_folder import make_locked_folder, remove_folder, remove_leftovers
from server.operations import shared_folder
from server.operations.shared_folder import allocate, make_shared_folder

NAMES, SIZE = ("counter_0", "counter_1"), 1 << 16


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders in place of the one in memory and the one on the disk."""
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    monkeypatch.setattr(shared_folder, "_MEMORY", memory)
    monkeypatch.setattr(shared_folder.tempfile, "gettempdir", lambda: str(disk))
    return memory, disk


@pytest.fixture
def full(monkeypatch):
    """Lets the allocation of a file below one of some folders fail."""

    def fill(*folders):
        def fails(descriptor, size):
            if any(str(folder) in str(Path(f"/proc/self/fd/{descriptor}").readlink()) for folder in folders):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            allocate(descriptor, size)

        monkeypatch.setattr(shared_folder, "allocate", fails)

    return fill


def leave_behind(parent, *files):
    """A folder whose owner has ended."""
    made = make_locked_folder(parent, "snapserve-metrics-")
    for name in files:
        (made.path / name).touch()
    os.close(made.lock)
    return made.path


def test_the_files_are_in_memory_and_each_has_all_of_its_room(places):
    memory, _ = places
    folder = make_shared_folder(NAMES, SIZE)
    files = sorted(folder.path.iterdir())
    assert folder.path.parent == memory
    assert [file.name for file in files] == ["counter_0.db", "counter_1.db"]
    assert all(file.stat().st_blocks * 512 >= SIZE == file.stat().st_size for file in files)
    folder.remove()
    assert list(memory.iterdir()) == []


def test_where_memory_is_full_they_are_on_the_disk_and_a_line_says_so(places, full, caplog):
    memory, disk = places
    full(memory)
    folder = make_shared_folder(NAMES, SIZE)
    assert folder.path.parent == disk
    assert list(memory.iterdir()) == [], "nothing of the first attempt stays"
    (line,) = caplog.messages
    assert line == f"no room for the metrics in {memory} (No space left on device); they are in {folder.path}"


def test_where_there_is_no_room_anywhere_there_is_none_and_a_line_says_so(places, full, caplog):
    full(*places)
    assert make_shared_folder(NAMES, SIZE) is None
    (line,) = caplog.messages
    assert line.endswith("; each worker reports its own only")
    assert all(str(place) in line for place in places)
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_a_start_removes_the_folders_of_owners_that_have_ended_and_no_others(places, caplog):
    memory, disk = places
    alive = make_shared_folder(NAMES, SIZE)
    dead = [leave_behind(memory, "counter_0.db"), leave_behind(memory), leave_behind(memory)]
    foreign = leave_behind(memory, "letter.txt")
    (disk / "kept").mkdir()
    (memory / "snapserve-metrics-link").symlink_to(disk / "kept")
    made = make_shared_folder(NAMES, SIZE)
    assert not any(folder.exists() for folder in dead)
    assert alive.path.exists() and foreign.exists() and made.path.exists() and (disk / "kept").exists()


def test_leftovers_are_removed_before_the_room_is_taken(places, full):
    memory, _ = places
    dead, order = leave_behind(memory, "counter_0.db"), []
    full()
    shared_folder.allocate = lambda *_: order.append(dead.exists())
    assert make_shared_folder(NAMES, SIZE).path.parent == memory
    assert order == [False, False]


def test_a_folder_that_another_start_takes_for_a_leftover_is_made_anew(places, monkeypatch):
    memory, _ = places
    lock, seen = locked_folder._lock, []

    def beaten_once(descriptor, wait):
        if wait and not seen:
            seen.extend(memory.iterdir())
            remove_leftovers(memory, "snapserve-metrics-")
        lock(descriptor, wait)

    monkeypatch.setattr(locked_folder, "_lock", beaten_once)
    folder = make_shared_folder(NAMES, SIZE)
    assert folder.path.exists() and folder.path not in seen
    assert list(memory.iterdir()) == [folder.path]


def test_the_lock_is_not_inherited_by_workers(places):
    folder = make_shared_folder(NAMES, SIZE)
    assert fcntl.fcntl(folder.lock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_several_processes_may_remove_a_folder(places):
    folder = make_shared_folder(NAMES, SIZE)
    for _ in range(2):
        remove_folder(folder.path)
    assert not folder.path.exists()


def test_a_file_does_not_get_shorter(tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"x" * 5000)
        file.flush()
        allocate(file.fileno(), 100)
        assert os.fstat(file.fileno()).st_size == 5000
