"""The sockets on which the supervisor listens for changes of the models."""

from __future__ import annotations

import dataclasses
import socket
from dataclasses import dataclass

from server.config import Config, ConfigError, ManagementConfig
from server.operations.lifecycle import listen_on
from server.operations.listeners import port_of


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


def open_managed_ports(config: Config, is_alone: bool) -> tuple[Config, ManagedPorts]:
    """Listens on them.

    Args:
        config: of the service.
        is_alone: there is no supervisor.

    Returns:
        The configuration with the port as it was chosen where 0 was asked for, and the sockets.

    Raises:
        ConfigError: an address is not ours, a port is taken, or nobody would answer there.
    """
    own, given = _own(config.management, is_alone), config.torchserve
    address = given.management
    is_shared = address.port != 0 and address == given.inference
    if not given.is_on or is_alone or is_shared:
        return config, ManagedPorts(own)
    torchserve = listen_on(address.host, address.port, "--management-address ")
    chosen = address._replace(port=port_of(torchserve)).url
    given = dataclasses.replace(given, management_address=chosen)
    return dataclasses.replace(config, torchserve=given), ManagedPorts(own, torchserve)


def _own(config: ManagementConfig, is_alone: bool) -> socket.socket | None:
    if config.management_port == "off":
        return None
    if is_alone:
        raise ConfigError("--management-port: this program serves without a supervisor, which manages models")
    return listen_on(config.management_host, int(config.management_port), "--management-")
