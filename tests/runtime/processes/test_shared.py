"""Batches in shared memory, and the messages about them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from runtime.processes import frames
from runtime.processes.frames import BrokenFrame, FrameReader
from runtime.processes.shared import Area, BrokenBatch


@pytest.fixture
def areas():
    """The same memory as two processes have it."""
    written = Area()
    read = Area(os.dup(written.descriptor))
    yield written, read
    written.close()
    read.close()


def same(first, second):
    return type(first) is type(second) and np.array_equal(first, second)


def test_items_of_any_kind_come_out_in_order(areas):
    written, read = areas
    items = [
        np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        np.arange(6, 12, dtype=np.uint8).reshape(1, 2, 3),
        b"abc",
        b"",
        {"a": [1, 2.5, None, "ü"]},
        np.float32(1.5).reshape(()),
        np.zeros((0, 3), np.int64),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ]
    groups = written.write(items)
    assert groups[0] == [2, "|u1", [1, 2, 3]], "arrays of one kind are one entry"
    assert all(same(*pair) for pair in zip(read.read(groups), items, strict=True))


TREES = [
    (np.arange(6.0).reshape(2, 3), [np.ones(2, np.float16)], {"b": np.zeros((0, 3), np.int8), "a": b"x"}),
    ((), [], {}, "\ud800", None, True, 2**70, -0.0, float("inf")),
    {"leaf": 1, "tuple": [1], "dict": {"dict": ({"a": [({},)]},)}},
    (np.array(True), np.float32(1.5)),
]


def equal(first, second):
    if isinstance(first, np.ndarray | np.generic):
        return same(first, second) and first.dtype == second.dtype
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, dict):
        return list(first) == list(second) and all(equal(first[key], second[key]) for key in first)
    return type(first) is type(second) and first == second


@pytest.mark.parametrize("copy", [True, False])
def test_trees_come_out_as_they_were_between_other_items(areas, copy):
    written, read = areas
    items = [TREES[0], b"abc", *TREES, np.arange(3), TREES[3], TREES[3], "text"]
    back = read.read(written.write(items), copy)
    assert len(back) == len(items) and all(map(equal, back, items))


def test_the_arrays_of_a_tree_are_not_copied_unless_asked(areas):
    written, read = areas
    groups = written.write([(np.zeros(3),), (np.zeros(3),)])
    views, copies = read.read(groups, copy=False), read.read(groups)
    written.write([(np.ones(3),), (np.ones(3),)])
    assert views[1][0].tolist() == [1.0] * 3 and copies[1][0].tolist() == [0.0] * 3


@pytest.mark.parametrize(
    "form",
    [
        b'{"leaf": 1}',
        b'{"tuple": 5}',
        b'{"dict": []}',
        b'{"list": []}',
        b'{"tuple": [], "dict": {}}',
        b"{}",
        b"[" * 100_000,
        b'{"tuple": [' * 100_000,
        b"\xff",
    ],
)
def test_a_tree_that_cannot_be_is_found(areas, form):
    written, read = areas
    written.write([form])
    with pytest.raises(BrokenBatch):
        read.read([[1, "tree", [len(form)]]])


def test_no_other_byte_than_0_and_1_becomes_a_bool(areas):
    written, read = areas
    written.write([np.array([0, 1, 7], np.uint8)])
    (flags,) = read.read([[1, "|b1", [3]]])
    assert flags.view(np.uint8).tolist() == [0, 1, 1]


def test_the_memory_grows_and_what_was_read_stays(areas):
    written, read = areas
    first = read.read(written.write([np.ones(10, np.float32)]))
    large = np.arange(3_000_000, dtype=np.int64)
    assert same(read.read(written.write([large]))[0], large)
    assert first[0].tolist() == [1.0] * 10
    assert read.read(written.write([b"small"])) == [b"small"]


def test_memory_that_is_read_cannot_be_taken_away(areas):
    written, _ = areas
    written.write([b"x"])
    with pytest.raises(OSError):
        os.ftruncate(written.descriptor, 0)


@pytest.mark.parametrize(
    "groups",
    [
        [[1, "|u1", [1 << 40]]],
        [[-1, "|u1", [1]]],
        [[1, "|O", [1]]],
        [[1, "no dtype", [1]]],
        [[1, "|u1"]],
        [[1, "json", [3]]],
        [[1, "|u1", ["x"]]],
        [3],
    ],
)
def test_a_message_that_lies_about_the_memory_is_found(areas, groups):
    written, read = areas
    written.write([b"abc"])
    with pytest.raises(BrokenBatch):
        read.read(groups)


def test_objects_are_not_shared(areas):
    with pytest.raises(TypeError):
        areas[0].write([np.array([object()])])
    with pytest.raises(TypeError):
        areas[0].write([object()])
    for tree in ([object()], {1: "x"}, (np.array([object()]),)):
        with pytest.raises(TypeError):
            areas[0].write([tree])


def test_nothing_of_it_has_a_name():
    before = set(Path("/dev/shm").iterdir())
    area = Area()
    area.write([bytes(100_000)])
    assert set(Path("/dev/shm").iterdir()) == before
    area.close()


def test_messages_come_whole_in_whatever_pieces():
    data = frames.packed({"id": 1}) + frames.packed({"id": 2, "text": "ü"})
    reader = FrameReader()
    assert [m for byte in data for m in reader.feed(bytes([byte]))] == [{"id": 1}, {"id": 2, "text": "ü"}]
    assert [m["id"] for m in FrameReader().feed(data)] == [1, 2]


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1x", b"\0\0\0\1[", b"\0\0\0\x0212"])
def test_what_is_no_message_is_refused(data):
    with pytest.raises(BrokenFrame):
        list(FrameReader().feed(data))


def test_descriptors_go_with_a_message_and_the_end_is_none():
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            frames.send(ours, {"a": 1})
            frames.send(ours, {"fork": 1}, [ours.fileno()])
            frames.send(ours, {"b": 2})
        assert frames.receive(theirs) == ({"a": 1}, [])
        message, (descriptor,) = frames.receive(theirs)
        assert message == {"fork": 1}
        os.close(descriptor)
        assert frames.receive(theirs) == ({"b": 2}, [])
        assert frames.receive(theirs) is None
