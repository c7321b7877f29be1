"""The life of a server process: its socket, event loop, signals and exit."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn

from models.archives.unpacked import remove_unpacked
from server.config import ConfigError, ServerConfig
from server.operations.line_writer import finish_lines


class ExitCode(IntEnum):
    """How a process of the server ends."""

    OK = 0
    UNANSWERED = 1  # the drain left requests unanswered
    WRONG_USE = 2  # a wrong option, a port that is taken, a model that cannot be served
    CANNOT_START = 3  # a worker ended again and again before it was ready
    ORPHANED = 4  # of a worker whose supervisor is gone
    ENGINE_STUCK = 5  # of a worker whose engine did not come back from a batch


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
    """The listening socket of clients. Raises ConfigError as `listen_on` does."""
    return listen_on(config.host, config.port)


def listen_on(host: str, port: int, option: str = "--") -> socket.socket:
    """A listening socket.

    Args:
        host: name or address.
        port: 0: any free one.
        option: how the options begin that give both.

    Raises:
        ConfigError: the address is not ours or the port is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (socket.gaierror, UnicodeError):
        raise ConfigError(f"{option}host {host}: must be a name or address of this machine") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"{option}host {host}: must be a name or address of this machine") from None
        reason = {errno.EADDRINUSE: "is in use", errno.EACCES: "needs privileges"}.get(
            error.errno or 0, "cannot be used"
        )
        raise ConfigError(
            f"{option}port {port}: {reason} on {host}; must be a free one between 0 and 65535, 0 takes any"
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


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes an event loop: "uvloop" or "asyncio"."""
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def shutdown_delay(config: ServerConfig) -> None:
    """Waits `shutdown_delay_s`: load balancers see /readyz fail before the drain begins."""
    if config.shutdown_delay_s:
        say(f"stopping in {config.shutdown_delay_s:g} s: requests are still taken, again to stop at once")
        await asyncio.sleep(config.shutdown_delay_s)


def say(text: str) -> None:
    """Prints a line."""
    print(text, flush=True)


def stopping_line(in_flight: int) -> str:
    """What is printed when the drain begins."""
    return f"stopping: {in_flight} requests in flight, again to stop at once"


def drained_line(answered: int, unanswered: int, seconds: float) -> str:
    """What is printed when it is over."""
    return f"drained: {answered} requests answered, {unanswered} left, {seconds:.2f} s"


def stop_on_signals(second: Callable[[], None] = lambda: None) -> asyncio.Event:
    """An event that a signal to stop sets; the second one calls `second` and ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            second()
            leave(128 + number)
        stop.set()

    for number in stop_signals():
        loop.add_signal_handler(number, on_signal, number)
    return stop


def stop_signals() -> list[signal.Signals]:
    """SIGTERM, SIGINT, and SIGHUP unless it is ignored, as `nohup` does to outlive its terminal."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hang_up]


def leave(code: int) -> NoReturn:
    """Ends the process without waiting for its threads, and hardly for the readers of its last lines."""
    remove_unpacked()
    finish_lines()
    os._exit(code)
