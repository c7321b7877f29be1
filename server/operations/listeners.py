"""The listening sockets of the service: its own, and one for each API with a port of its own."""

from __future__ import annotations

import dataclasses
import socket

from server.config import Config
from server.operations.lifecycle import listen


def open_listeners(config: Config) -> tuple[Config, list[socket.socket]]:
    """Listens on every port.

    Returns:
        The configuration with the ports of APIs as they were chosen where 0 was asked for, and the sockets; the
        first is the service's own.

    Raises:
        ConfigError: an address is not ours or a port is taken.
    """
    server = config.server
    sockets, apis = [listen(server)], []
    for name, port in server.apis.items():
        if port is None:
            apis.append(name)
            continue
        sockets.append(listen(dataclasses.replace(server, port=port)))
        apis.append(f"{name}={port_of(sockets[-1])}")
    return dataclasses.replace(config, server=dataclasses.replace(server, api=tuple(apis))), sockets


def port_of(connection: socket.socket) -> int:
    """The port of this side."""
    port: int = connection.getsockname()[1]
    return port
