"""Tells the program that has started the server when that answers."""

from __future__ import annotations

import contextlib
import os

from snapserve.torchserve_command import READY_VARIABLE


def is_awaited() -> bool:
    """Whether a program has started the server in the background and waits until it answers."""
    return READY_VARIABLE in os.environ


def tell_ready() -> None:
    """Writes to the descriptor that the environment names, if it does, and closes it. Later calls do nothing."""
    text = os.environ.pop(READY_VARIABLE, "")
    if text.isdecimal():
        with contextlib.suppress(OSError), os.fdopen(int(text), "wb") as file:
            file.write(b"\n")
