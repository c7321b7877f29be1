"""Whoever writes a line waits for nobody: not for a reader that stands still, nor for a disk that is full."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

from server.operations.line_writer import LineWriter


@pytest.fixture
def pipe():
    """The ends of a pipe, as a stream to read and a descriptor to write."""
    reading, writing = os.pipe()
    with open(reading) as stream:  # noqa: PTH123  a descriptor
        yield stream, writing
        with contextlib.suppress(OSError):
            os.close(writing)


def fill(descriptor):
    """Leaves no room in a pipe."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x")
    os.set_blocking(descriptor, True)


def test_lines_are_written_whole_and_in_order(pipe):
    stream, writing = pipe
    writer = LineWriter(writing)
    for number in range(50):
        print("line", number, file=writer)
        writer.offer(f"offered {number}")
    assert writer.finish(30)
    os.close(writing)
    assert stream.read().splitlines() == [
        line for number in range(50) for line in (f"line {number}", f"offered {number}")
    ]


def test_a_reader_that_stands_still_holds_nobody_up_and_is_told_what_it_missed(pipe):
    stream, writing = pipe
    fill(writing)
    writer = LineWriter(writing, room=5 * len("line 0\n"))
    lines = [f"line {number}\n" for number in range(8)]
    writing_lines = threading.Thread(target=lambda: [writer.write(line) for line in lines], daemon=True)
    writing_lines.start()
    writing_lines.join(30)
    assert not writing_lines.is_alive(), "it waits for room"
    assert writer.dropped == 3
    assert not writer.finish(0.01), "and the end of the process waits for a while only"
    assert stream.readline().endswith("xline 0\n")
    assert [stream.readline() for _ in range(4)] == [f"line {number}\n" for number in range(1, 5)]
    assert writer.finish(30)
    print("after", file=writer)
    assert writer.finish(30)
    os.close(writing)
    assert stream.read() == "snapserve: 3 log lines were dropped: slow reader or full disk\nafter\n"


def test_offered_lines_leave_half_of_the_room_to_the_others(pipe):
    stream, writing = pipe
    fill(writing)
    writer = LineWriter(writing, room=1000)
    for _ in range(1000):
        writer.offer("request")
    print("worth more", file=writer)
    assert writer.dropped == 1000 - 500 // len("request\n")
    assert stream.read(65536 + 1).endswith("x" * 1000 + "r")
    assert writer.finish(30)
    os.close(writing)
    assert stream.read().endswith("slow reader or full disk\nworth more\n")


def test_a_reader_that_is_gone_ends_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    writer = LineWriter(writing)
    for _ in range(3):
        print("nobody reads this", file=writer)
        assert writer.finish(30)
    os.close(writing)
    print("closed", file=writer)
    assert writer.finish(30)
    assert writer.dropped == 4


def test_a_disk_that_has_room_again_is_told_what_is_missing(pipe):
    stream, writing = pipe
    full = os.open("/dev/full", os.O_WRONLY)
    writer = LineWriter(full)
    for _ in range(3):
        print("no room", file=writer)
        assert writer.finish(30)
    os.dup2(writing, full)
    os.close(writing)
    print("room", file=writer)
    assert writer.finish(30)
    os.close(full)
    assert stream.read() == "snapserve: 3 log lines were dropped: slow reader or full disk\nroom\n"
    assert writer.dropped == 3


def test_a_pipe_that_another_program_made_non_blocking_loses_nothing(pipe):
    stream, writing = pipe
    os.set_blocking(writing, False)
    writer = LineWriter(writing)
    text = "y" * 200_000
    print(text, file=writer)
    assert stream.read(len(text) + 1) == text + "\n"
    assert writer.finish(30)


def test_what_does_not_end_with_a_line_is_written_at_the_end_or_when_it_is_long(pipe):
    stream, writing = pipe
    writer = LineWriter(writing)
    writer.write("z" * 10_000)
    assert stream.read(10_000) == "z" * 10_000
    writer.write("begun")
    assert writer.finish(30)
    os.close(writing)
    assert stream.read() == "begun"


def test_text_that_is_no_unicode_is_written_all_the_same(pipe):
    stream, writing = pipe
    writer = LineWriter(writing)
    print("a \ud800 b", file=writer)
    assert writer.finish(30)
    os.close(writing)
    assert stream.read() == "a \\ud800 b\n"


def test_threads_that_write_at_once_do_not_break_lines(pipe):
    stream, writing = pipe
    writer = LineWriter(writing)
    threads = [
        threading.Thread(target=lambda: [writer.write(f"{'w' * 100}\n") for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    lines = [stream.readline() for _ in range(200)]
    for thread in threads:
        thread.join()
    assert set(lines) == {"w" * 100 + "\n"}
