"""TLS of the ports that speak HTTPS, and of gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import NamedTuple

from server.config import ConfigError, TorchServeConfig

_HANDSHAKE = b"\x16"  # the first byte of TLS, RFC 8446, 5.1
_LINGERING_S = 1.0  # how long the rest of a plain request is read, so that the client sees the answer
_PIECE = 65_536


class Secured(NamedTuple):
    """A port that speaks HTTPS.

    Attributes:
        context: of its connections.
        refusal: the whole answer to a client that speaks plain HTTP to it.
        handshake_s: longest time for the handshake.
    """

    context: ssl.SSLContext
    refusal: bytes
    handshake_s: float

    async def greets(self, connection: socket.socket) -> bool:
        """Whether a client begins a handshake; one that does not is answered, and its connection closed.

        Raises:
            OSError: the client has left.
            TimeoutError: it sent no byte.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.handshake_s):
            first = await _first_byte(loop, connection)
        if first == _HANDSHAKE:
            return True
        with connection, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGERING_S):
                await loop.sock_sendall(connection, self.refusal)
                connection.shutdown(socket.SHUT_WR)
                while await loop.sock_recv(connection, _PIECE):
                    pass
        return False


async def _first_byte(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    """What the client sends first, which stays to be read; b"" where it has closed its end."""
    connection.setblocking(False)
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _settle, readable)
    try:
        await readable
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def tls_of(config: TorchServeConfig) -> ssl.SSLContext | None:
    """The server's side of TLS, with the certificate; None where no file is named.

    Raises:
        ConfigError: a file cannot be read, or is none, or the key is another certificate's.
    """
    if config.certificate_file is None or config.private_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    where = f"--certificate-file {config.certificate_file}, --private-key-file {config.private_key_file}"
    try:
        context.load_cert_chain(config.certificate_file, config.private_key_file, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(f"{where}: {(error.reason or 'no PEM files').lower().replace('_', ' ')}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {getattr(error, 'strerror', None) or error}") from None
    return context


def read_certificate(config: TorchServeConfig) -> tuple[bytes, bytes] | None:
    """The private key and the certificate with its chain, PEM, checked; None where no file is named.

    Raises:
        ConfigError: as `tls_of` does.
    """
    if tls_of(config) is None:
        return None
    assert config.private_key_file is not None and config.certificate_file is not None
    return config.private_key_file.read_bytes(), config.certificate_file.read_bytes()


def _no_password() -> str:
    """Called for a key that is encrypted: without it OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted")
