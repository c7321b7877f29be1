"""The socket that clients connect to: opened, and closed without losing a connection."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import sys

from server.config import ConfigError, ServerConfig

BACKLOG = 2048
LAST_CALL_S = 0.1  # time for handshakes and requests that were on the wire when the drain began

# A socket filter in classic BPF that drops packets with SYN: flags & 2, at byte 13 of the TCP header.
# https://www.kernel.org/doc/Documentation/networking/filter.txt
_SO_ATTACH_FILTER = 26  # Linux
_LOAD_BYTE, _JUMP_IF_SET, _RETURN = 0x30, 0x45, 0x06
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (_LOAD_BYTE, 0, 0, 13),
        (_JUMP_IF_SET, 0, 1, 0x02),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, 0xFFFFFFFF),
    )
)


def listen(config: ServerConfig) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the address is not ours or the port is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            config.host or None, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = config.host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (socket.gaierror, UnicodeError):
        raise ConfigError(f"--host {config.host}: must be a name or address of this machine") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"--host {config.host}: must be a name or address of this machine") from None
        reason = {errno.EADDRINUSE: "is in use", errno.EACCES: "needs privileges"}.get(
            error.errno or 0, "cannot be used"
        )
        raise ConfigError(
            f"--port {config.port}: {reason} on {config.host}; must be a free one between 0 and 65535, 0 takes any"
        ) from None


def ignore_newcomers(listening: socket.socket) -> None:
    """Begins no further handshake, and completes those that have begun, where the kernel can do that.

    Closing a listening socket resets the connections that it has not given out. Between the last of them and the
    close there must be no new one: a client whose first packet is ignored sends it again a second later, and is
    then refused.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    address = ctypes.addressof(program)
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN) // 8, address))
