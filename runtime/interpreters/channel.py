"""Messages between the manager and an interpreter, with any number of descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from runtime.processes import frames
from runtime.processes.frames import Message

_MOST = 8  # descriptors that one frame carries


def send(end: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Sends a message; frames with nothing but descriptors go before it. Raises OSError."""
    while len(descriptors) > _MOST:
        frames.send(end, {"more": True}, descriptors[:_MOST])
        descriptors = descriptors[_MOST:]
    frames.send(end, message, descriptors)


def receive(end: socket.socket) -> tuple[Message, list[int]] | None:
    """Waits for a message; None when the other end is closed, also in the middle of one."""
    gathered: list[int] = []
    while (received := _frame(end)) is not None:
        message, descriptors = received
        gathered += descriptors
        if "more" not in message:
            return message, gathered
    for each in gathered:
        os.close(each)
    return None


def _frame(end: socket.socket) -> tuple[Message, list[int]] | None:
    try:
        return frames.receive(end)
    except OSError:  # it ended without having read everything, or this end is closed
        return None
