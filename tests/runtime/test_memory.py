"""Memory as the kernel counts it."""

from __future__ import annotations

import asyncio
import mmap
import os
import subprocess
import sys

import pytest

from runtime import memory
from runtime.memory import MemoryMeter, processes_bytes, proportional_bytes, resident_bytes

MB = 1 << 20
HOLDER = "import sys; held = bytearray(b'x') * int(sys.argv[1]); print(flush=True); sys.stdin.read()"


@pytest.fixture
def hold():
    """A function from bytes to the id of a process that holds them."""
    started = []

    def start(size):
        words = [sys.executable, "-c", HOLDER, str(size)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process.pid

    yield start
    for each in started:
        each.communicate()


def test_the_memory_of_a_process_is_what_it_holds(hold):
    small, large = hold(1), hold(64 * MB)
    for measure in (proportional_bytes, resident_bytes):
        assert measure(large) - measure(small) == pytest.approx(64 * MB, rel=0.1)
    assert proportional_bytes(large) < resident_bytes(large), "the interpreter is shared"
    assert processes_bytes([small, large]) == pytest.approx(
        proportional_bytes(small) + proportional_bytes(large), rel=0.05
    )


def test_a_process_that_has_ended_takes_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    assert proportional_bytes(ended.pid) == 0
    assert resident_bytes(ended.pid) == 0


def test_where_the_kernel_tells_no_shares_resident_memory_is_taken(hold, monkeypatch):
    pid = hold(64 * MB)
    exact = resident_bytes(pid)
    monkeypatch.setattr(memory.Path, "read_text", without_rollup(memory.Path.read_text))
    assert proportional_bytes(pid) == pytest.approx(exact, rel=0.05)
    assert resident_bytes(pid) == pytest.approx(exact, rel=0.05)


def without_rollup(read_text):
    def read(path):
        if path.name == "smaps_rollup":
            raise PermissionError(path)
        return read_text(path)

    return read


class Process:
    """A process as a meter sees it: `kept` was freed and would be used again."""

    def __init__(self):
        self.used, self.kept, self.read_during = 100, 30, []
        self.loading = False

    def read(self):
        self.read_during.append(self.loading)
        return self.used + self.kept

    def give_back(self):
        self.kept = 0

    async def load(self, size, garbage=0):
        self.loading = True
        await asyncio.sleep(0.01)
        reused = min(self.kept, size + garbage)
        self.used, self.kept = self.used + size, self.kept - reused + garbage
        self.loading = False
        return size


async def test_what_a_load_adds_is_measured_without_what_the_allocator_keeps():
    process = Process()
    meter = MemoryMeter(process.read, process.give_back)
    assert await meter.measure(lambda: process.load(50, garbage=20)) == (50, 50)


async def test_loads_are_measured_one_at_a_time():
    process = Process()
    meter = MemoryMeter(process.read, process.give_back)
    sizes = [10, 20, 30, 40]
    measured = await asyncio.gather(*(meter.measure(lambda size=size: process.load(size)) for size in sizes))
    assert measured == [(size, size) for size in sizes]
    assert process.read_during == [False] * 8


async def test_a_load_that_fails_frees_its_turn_and_less_memory_than_before_is_none():
    process = Process()
    meter = MemoryMeter(process.read, process.give_back)

    async def fail():
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        await meter.measure(fail)
    assert await meter.measure(lambda: process.load(-50)) == (-50, 0)


async def test_this_process_is_measured():
    area = mmap.mmap(-1, 64 * MB)

    async def load():
        area[:] = bytes([1]) * len(area)

    try:
        _, added = await MemoryMeter().measure(load)
    finally:
        area.close()
    assert added == pytest.approx(64 * MB, rel=0.1)
    assert resident_bytes() == pytest.approx(resident_bytes(os.getpid()), rel=0.05)
