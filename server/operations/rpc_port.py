"""The port of gRPC: each worker listens on it by itself, so the supervisor only holds it."""

from __future__ import annotations

import dataclasses
import socket
from importlib.util import find_spec
from typing import cast

from server.config import Config, ConfigError, ServerConfig
from server.operations.lifecycle import listen_on
from server.operations.tls import read_certificate

_OPTION = "--grpc-"


def reserve_rpc_port(config: Config) -> tuple[Config, socket.socket | None]:
    """Finds out whether the port is free, and holds it for the workers.

    Returns:
        The configuration with the port as it was chosen where 0 was asked for, and a socket that does not listen;
        None without --grpc-port.

    Raises:
        ConfigError: the port is taken, gRPC is not installed, or the certificate cannot be read.
    """
    server = config.server
    if server.grpc_port == "off":
        return config, None
    if not all(map(find_spec, ("grpc", "google", "google.protobuf"))):
        raise ConfigError("--grpc-port needs gRPC: pip install 'snapserve[grpc]' installs it")
    read_certificate(config.torchserve)
    with listen_on(
        server.host, int(server.grpc_port), _OPTION
    ) as first:  # a server that shares it would be unseen
        family, address = first.family, first.getsockname()
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(address)
    return dataclasses.replace(config, server=dataclasses.replace(server, grpc_port=str(address[1]))), held


def rpc_lines(config: Config) -> list[str]:
    """Where gRPC is served, for the terminal."""
    if config.server.grpc_port == "off":
        return []
    with_tls = " with TLS" if config.torchserve.certificate_file else ""
    return [f"  Open Inference over gRPC{with_tls} on {address_of(config.server)}"]


def address_of(server: ServerConfig) -> str:
    """Where gRPC listens, as it writes addresses."""
    family, *_, address = socket.getaddrinfo(
        server.host or None, int(server.grpc_port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    host, port = cast("tuple[str, int]", address[:2])
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
