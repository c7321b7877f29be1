"""The sockets on which the supervisor listens for changes of the models."""

from __future__ import annotations

import dataclasses
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from models.machine.locked_folder import LockedFolder, make_locked_folder, remove_leftovers
from server.config import Config, ConfigError, ManagementConfig
from server.operations.lifecycle import listen_on
from server.operations.listeners import port_of
from server.torchserve_config import INNER_VARIABLE

_PREFIX = "snapserve-management-"


@dataclass(frozen=True)
class ManagedPorts:
    """None where there is no such API.

    Attributes:
        own: of our management.
        torchserve: of TorchServe's management API.
        inner: folder of that one, to which only workers connect: the API shares its port with inference.
    """

    own: socket.socket | None = None
    torchserve: socket.socket | None = None
    inner: LockedFolder | None = None

    @property
    def is_needed(self) -> bool:
        """Whether there is any."""
        return bool(self.own or self.torchserve)

    def remove(self) -> None:
        """Removes what they have on the disk."""
        if self.inner:
            self.inner.remove()


def open_managed_ports(config: Config, is_alone: bool) -> tuple[Config, ManagedPorts]:
    """Listens on them.

    Args:
        config: of the service.
        is_alone: there is no supervisor.

    Returns:
        The configuration with the ports as they were chosen where 0 was asked for, and the sockets.

    Raises:
        ConfigError: an address is not ours, a port is taken, or no process would answer there.
    """
    own, given = _own(config.management, is_alone), config.torchserve
    if own:
        management = dataclasses.replace(config.management, management_port=str(port_of(own)))
        config = dataclasses.replace(config, management=management)
    if not given.is_on or is_alone:
        return config, ManagedPorts(own)
    address = given.management
    if address.port and address == given.inference:
        return config, ManagedPorts(own, *_inner())
    torchserve = listen_on(address.host, address.port, "--management-address ")
    chosen = address._replace(port=port_of(torchserve)).url
    given = dataclasses.replace(given, management_address=chosen)
    return dataclasses.replace(config, torchserve=given), ManagedPorts(own, torchserve)


def _inner() -> tuple[socket.socket, LockedFolder]:
    """A socket in a folder of our own; workers find its path in their environment. Raises ConfigError."""
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent, _PREFIX)
    try:
        folder = make_locked_folder(parent, _PREFIX)
        path = f"/proc/{os.getpid()}/fd/{folder.lock}/socket"  # short, unlike that of some temporary folders
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(path)
        listening.listen()
    except OSError as error:
        raise ConfigError(f"--management-address: no socket can be made in {parent}: {error}") from None
    os.environ[INNER_VARIABLE] = path
    return listening, folder


def _own(config: ManagementConfig, is_alone: bool) -> socket.socket | None:
    if config.management_port == "off":
        return None
    if is_alone:
        raise ConfigError("--management-port: this program serves without a supervisor, which manages models")
    return listen_on(config.management_host, int(config.management_port), "--management-")
