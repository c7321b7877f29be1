"""The sockets on which the supervisor listens for changes of the models."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class ManagedPorts:
    """None where there is no such API.

    Attributes:
        own: of our management.
        torchserve: of TorchServe's management API.
    """

    own: socket.socket | None = None
    torchserve: socket.socket | None = None

    @property
    def is_needed(self) -> bool:
        """Whether there is any."""
        return bool(self.own or self.torchserve)
