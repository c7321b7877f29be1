"""Parts of responses, and clients that leave, on both ends of a real socket."""

from __future__ import annotations

import os
import socket

import pytest

from runtime.errors import EngineDied, ResponseBegun
from runtime.inputs import Part
from runtime.processes import frames
from runtime.processes.channel import PartChannel
from runtime.processes.frames import BrokenFrame
from runtime.processes.parts import BatchParts, StreamedItem, check_not_begun
from runtime.processes.shared import Area
from runtime.processes.suspects import Suspects


def item(on_part=None, content="x"):
    return StreamedItem({"a": 1}, content, on_part)


def test_a_part_reaches_its_item_and_no_other():
    seen, (ours, theirs) = [], socket.socketpair()
    with ours, theirs:
        items = [item(), "an array", item(seen.append)]
        parts, channel = BatchParts(items, lambda index: None), PartChannel(theirs)
        channel.begin(7)
        channel.send(2, b"\x00\xff", 201, [("a", "b")])
        channel.send(0, b"nobody wants it", 200, ())
        for _ in range(2):
            message, _ = frames.receive(ours)
            assert message.pop("id") == 7
            parts.take(message)
    assert seen == [Part(b"\x00\xff", 201, (("a", "b"),))]
    assert (items[2].has_begun, items[0].has_begun) == (True, False)
    with pytest.raises(ResponseBegun):
        check_not_begun(items)
    check_not_begun(items[:2])


@pytest.mark.parametrize("change", [{"part": 1}, {"part": [0]}, {"body": "?"}, {"headers": 1}, {"status": "x"}])
def test_what_is_no_part_is_a_broken_frame(change):
    parts = BatchParts([item(print)], lambda index: None)
    with pytest.raises(BrokenFrame):
        parts.take({"part": 0, "body": "", "status": 200, "headers": [], **change})


def test_a_part_that_cannot_be_passed_on_ends_the_parts_of_its_item(caplog):
    told, broken = [], item(lambda part: 1 / 0)
    parts = BatchParts(["x", broken], told.append)
    for _ in range(2):
        parts.take({"part": 1, "body": "", "status": 200, "headers": []})
    assert told == [1] and broken.is_left and len(caplog.records) == 1


def test_a_child_hears_who_has_left_its_batch_and_not_another():
    ours, theirs = socket.socketpair()
    with theirs:
        channel = PartChannel(theirs)
        channel.begin(2)
        frames.send(ours, {"id": 1, "left": 0})
        assert not channel.has_left(0)
        frames.send(ours, {"id": 2, "left": 1})
        assert channel.has_left(1) and not channel.has_left(0)
        channel.begin(3)
        assert not channel.has_left(1)
        ours.close()
        assert channel.has_left(0)


def test_bytes_that_may_change_arrive_as_a_bytearray_of_the_readers_own():
    written = Area()
    read = Area(os.dup(written.descriptor))
    upload = bytearray(b"0123456789")
    groups = written.write([StreamedItem({"v": memoryview(upload)[2:4], "w": upload, "b": b"x"}, "x")])
    (found,) = read.read(groups, copy=False)
    assert found == {"v": b"23", "w": upload, "b": b"x"}
    assert [type(each) for each in found.values()] == [bytearray, bytearray, bytes]
    written.write([{"w": b"9" * 10, "v": b"99"}])
    assert found["w"] == upload
    written.close()
    read.close()


def test_the_same_content_is_the_same_suspect_whatever_its_request_id():
    suspects = Suspects(lambda: 0.0)
    content = ["predict", {"body": memoryview(b"kills")}]
    for number in range(2):
        suspects.add([StreamedItem({"id": number}, content)], EngineDied("x"))
    with pytest.raises(EngineDied, match="refused"):
        suspects.check([StreamedItem({"id": 3}, ["predict", {"body": memoryview(bytearray(b"kills"))}])])
    assert not suspects.check([StreamedItem({"id": 3}, ["predict", {"body": memoryview(b"is fine")}])])
