"""Messages between a process and its children: a length, then JSON."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct("!I")
_LONGEST = 1 << 26  # bytes of a message
_MOST_DESCRIPTORS = 8


class BrokenFrame(Exception):
    """What came is no message."""


def packed(message: Message) -> bytes:
    """A message as it is sent."""
    data = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(data)) + data


def send(end: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Sends a message as a whole, with descriptors, of which the receiver gets duplicates. Raises OSError."""
    data = packed(message)
    sent = socket.send_fds(end, [data], descriptors) if descriptors else end.send(data)
    if sent < len(data):
        end.sendall(data[sent:])


def receive(end: socket.socket) -> tuple[Message, list[int]] | None:
    """Waits for a message, and the descriptors that came with it; None when the other end is closed."""
    head, descriptors, _, _ = socket.recv_fds(end, _LENGTH.size, _MOST_DESCRIPTORS)
    head += _exactly(end, _LENGTH.size - len(head)) if head else b""
    body = _exactly(end, _LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    return (json.loads(body), list(descriptors)) if body else None


def _exactly(end: socket.socket, size: int) -> bytes:
    """So many bytes; fewer only where the other end is closed."""
    parts = bytearray()
    while len(parts) < size and (part := end.recv(size - len(parts))):
        parts += part
    return bytes(parts) if len(parts) == size else b""


class FrameReader:
    """Puts messages together from what a socket gives, in whatever pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Takes what came and gives the messages that are complete. Raises BrokenFrame."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > _LONGEST:
                raise BrokenFrame(f"a message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield _parsed(body)


def _parsed(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise BrokenFrame("no JSON") from None
    if not isinstance(message, dict):
        raise BrokenFrame("no object")
    return message
