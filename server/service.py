"""One server process: listen, load, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from typing import NoReturn

from aiohttp import web

from server.app import make_app
from server.banner import banner
from server.catalog import Bundles
from server.config import Config, ConfigError, ServerConfig
from server.context import CONTEXT
from server.lag import LoopLag
from server.protocol import Connection, Connections

log = logging.getLogger("snapserve")

_BACKLOG = 2048
_READ_BUFFER = 1 << 18  # bytes of a body that are read ahead of the handler
_LINGERING_S = 5.0  # how long the rest of a refused upload is read, so that the client sees the answer
_LAST_CALL_S = 0.1  # time for requests that were on the wire when the drain began


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
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except socket.gaierror:
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


class Service:
    """Serves until told to stop."""

    def __init__(self, config: Config, bundles: Bundles) -> None:
        self._config = config
        self._app = make_app(config, bundles)
        self.context = self._app[CONTEXT]
        self._connections = Connections()
        self._runner = web.AppRunner(self._app, handler_cancellation=True)
        self._loop_lag = LoopLag(self.context.metrics.observe_loop_lag)
        self._listener: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Accepts connections on a socket; until `load` is done, pictures are answered with 503."""
        self._loop_lag.start()
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connect, sock=listening, backlog=_BACKLOG)

    async def load(self) -> None:
        """Loads and warms up the models. Raises ModelError where one cannot be loaded."""
        await self.context.catalog.load()

    async def drain(self) -> int:
        """Stops accepting, answers what was accepted, closes everything.

        Returns:
            The number of requests left unanswered when `drain_timeout_s` was over.
        """
        context = self.context
        context.draining = True
        assert self._listener is not None
        # What the kernel has accepted for us is ours too: one turn of the loop takes it in.
        await asyncio.sleep(_LAST_CALL_S)
        self._listener.close()
        self._connections.close_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.server.drain_timeout_s):
                await self._connections.wait_closed()
                await context.catalog.close()
        # An answer that its client does not read is not unanswered.
        unanswered = context.in_flight
        self._connections.abort()
        return unanswered

    async def close(self) -> None:
        """Ends what the drain has left."""
        self._loop_lag.stop()
        await self._runner.cleanup()

    def _connect(self) -> Connection:
        server, limits = self._config.server, self._config.limits
        assert self._runner.server is not None
        return Connection(
            self._runner.server,
            self._connections,
            limits,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=server.keepalive_timeout_s,
            access_log=logging.getLogger("snapserve.access") if server.access_log else None,
            read_bufsize=_READ_BUFFER,
            lingering_time=_LINGERING_S,
            auto_decompress=False,
        )


async def serve(config: Config, bundles: Bundles, listening: socket.socket) -> NoReturn:
    """Runs the service until SIGTERM or SIGINT, then ends the process; a second signal ends it at once.

    The exit code is 0, or 1 when the drain left requests unanswered.

    Raises:
        ModelError: a model cannot be loaded.
    """
    stop = _stop_on_signals()
    began = time.monotonic()
    service = Service(config, bundles)
    await service.start(listening)
    loading, stopping = asyncio.ensure_future(service.load()), asyncio.ensure_future(stop.wait())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        _leave(0)  # an engine that is being loaded cannot be interrupted otherwise
    loading.result()
    _freeze()
    print(banner(service.context.catalog, listening.getsockname(), time.monotonic() - began), flush=True)
    await stopping
    await _stop(service)


def _freeze() -> None:
    """Keeps what the start has made, torch above all, out of garbage collections: one of all of it takes 0.1 s."""
    gc.collect()
    gc.freeze()


async def _stop(service: Service) -> NoReturn:
    context, began = service.context, time.monotonic()
    before = context.answered
    print(f"stopping: {context.in_flight} requests in flight, again to stop at once", flush=True)
    unanswered = await service.drain()
    seconds = time.monotonic() - began
    print(
        f"drained: {context.answered - before} requests answered, {unanswered} left, {seconds:.2f} s",
        flush=True,
    )
    if not unanswered:
        await service.close()
    _leave(1 if unanswered else 0)  # without waiting for a thread that may be busy with an endless picture


def _stop_on_signals() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            _leave(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
