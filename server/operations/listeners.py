"""The listening sockets of the service: its own, and those of APIs with ports of their own."""

from __future__ import annotations

import dataclasses
import socket

from server.config import Config, TorchServeConfig
from server.operations.lifecycle import listen, listen_on
from server.operations.tls import tls_of


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
    config = dataclasses.replace(config, server=dataclasses.replace(server, api=tuple(apis)))
    if not config.torchserve.is_on:
        return config, sockets
    given, further = _listen_for_torchserve(config.torchserve)
    return dataclasses.replace(config, torchserve=given), sockets + further


def _listen_for_torchserve(given: TorchServeConfig) -> tuple[TorchServeConfig, list[socket.socket]]:
    """Listens where workers answer; the supervisor listens for the management API, if on a port of its own."""
    tls_of(given)
    inference = listen_on(given.inference.host, given.inference.port, "--inference-address ")
    metrics = listen_on(given.metrics.host, given.metrics.port, "--metrics-address ")
    chosen = dataclasses.replace(
        given,
        inference_address=given.inference._replace(port=port_of(inference)).url,
        metrics_address=given.metrics._replace(port=port_of(metrics)).url,
    )
    return chosen, [inference, metrics]


def port_of(connection: socket.socket) -> int:
    """The port of this side."""
    port: int = connection.getsockname()[1]
    return port
