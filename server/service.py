"""What answers requests in one process: accept, load, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from aiohttp import web

from runtime.errors import EngineStuck
from runtime.model_set import ModelSet
from runtime.sources import Bundles
from runtime.stay import AnyDeployment
from server.app import CONTROL, SECURED, make_apps
from server.config import Config
from server.default_model import reason
from server.http.connection import Connection
from server.http.connections import Connections
from server.http.context import CONTEXT, Context
from server.http.dialect import DIALECTS
from server.operations.acceptor import Acceptor
from server.operations.banner import banner
from server.operations.lag import LoopLag
from server.operations.lifecycle import (
    LAST_CALL_S,
    ExitCode,
    drained_line,
    ignore_newcomers,
    leave,
    say,
    shutdown_delay,
    stop_on_signals,
    stopping_line,
)
from server.operations.listeners import port_of
from server.operations.rpc_port import rpc_lines
from server.operations.shared_metrics import SharedMetrics

if TYPE_CHECKING:
    from server.dialects.open_inference.rpc.listener import RpcListener

_FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
_READ_BUFFER = 1 << 18  # bytes of a body that are read ahead of the handler
_GIVE_UP_S = 2.0  # from the moment when an engine counts as hung to the end of the process
_LINGERING_S = 5.0  # how long the rest of a refused upload is read, so that the client sees the answer


class Service:
    """Serves until told to stop."""

    def __init__(
        self,
        config: Config,
        bundles: Bundles,
        shared: SharedMetrics | None = None,
        on_closed: Callable[[], None] | None = None,
        models: ModelSet | None = None,
    ) -> None:
        """Creates it; nothing is loaded yet.

        Args:
            config: of this process.
            bundles: of the command line.
            shared: where the figures of other workers are.
            on_closed: called after a connection was closed.
            models: to be served; None: the bundles.
        """
        self._config = config
        apps = make_apps(config, bundles, shared, models)
        self.context = apps.main[CONTEXT]
        self.control = apps.main[CONTROL]
        self._connections = Connections(on_closed, config.limits.max_connections)
        self._runner = web.AppRunner(apps.main, handler_cancellation=True)
        self._runners = {port: web.AppRunner(app, handler_cancellation=True) for port, app in apps.ports.items()}
        self._rpc = _rpc_listener(config, self.context)
        self._loop_lag = LoopLag(self.context.metrics.observe_loop_lag)
        self._listening: Sequence[socket.socket] = ()
        self._acceptors: list[Acceptor] = []
        self._adopting: set[asyncio.Task[None]] = set()
        self._drain_limit: asyncio.Timeout | None = None
        self._gave_up_at: float | None = None

    async def start(self, listening: Sequence[socket.socket] = ()) -> None:
        """Accepts connections on sockets, or only those that are given to `adopt`.

        Until `load` is done, images are answered with 503.
        """
        for runner in (self._runner, *self._runners.values()):
            await runner.setup()
        self._listening = listening
        self._acceptors = [Acceptor(each, self._take) for each in listening]
        for acceptor in self._acceptors:
            acceptor.start()

    async def adopt(self, connection: socket.socket) -> None:
        """Serves a connection that another process has accepted, with the APIs of its port."""
        runner = self._runners.get(port_of(connection), self._runner) if self._runners else self._runner
        connect, loop = partial(self._connect, runner), asyncio.get_running_loop()
        secured = runner.app.get(SECURED)
        if secured is None:
            await loop.connect_accepted_socket(connect, connection)
        elif await secured.greets(connection):
            tls, limit_s = secured.context, secured.handshake_s
            await loop.connect_accepted_socket(connect, connection, ssl=tls, ssl_handshake_timeout=limit_s)

    async def load(self) -> None:
        """Loads and warms up the models. Raises ModelError where one cannot be loaded."""
        await self.control.start()
        if self._rpc:
            await self._rpc.start()

    def watch_loop(self) -> None:
        """Begins to measure the event loop's delay; that of the start delays no request."""
        self._loop_lag.start()

    def describe(self) -> list[str]:
        """A line about each loaded model, with its warnings."""
        return [
            deployment.model.describe(deployment.runner.facts) + _target_line(deployment)
            for deployment in self.context.store
            if deployment.runner.facts
        ]

    async def drain(self) -> int:
        """Stops accepting, answers what was accepted, closes everything.

        A batch whose clients have all left is not waited for.

        Returns:
            The number of requests left unanswered when `drain_timeout_s` was over.
        """
        context = self.context
        context.draining = True
        context.store.expect_none()
        for listening in self._listening:
            ignore_newcomers(listening)
        await asyncio.sleep(LAST_CALL_S)
        await asyncio.gather(*(acceptor.close() for acceptor in self._acceptors))
        await asyncio.gather(*self._adopting)
        self._connections.close_idle()
        rpc = asyncio.ensure_future(self._drain_rpc())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.server.drain_timeout_s) as self._drain_limit:
                self._shorten_drain()
                await self._connections.wait_closed()
                await asyncio.shield(rpc)
                if all(deployment.runner.busy_since is None for deployment in context.store):
                    await context.store.close()
                    await context.spares.close()
        context.cpu_pool.close()
        # An answer that its client does not read is not unanswered.
        unanswered = context.in_flight
        self._connections.abort()
        return unanswered

    async def _drain_rpc(self) -> None:
        if self._rpc:
            await self._rpc.drain(self._config.server.drain_timeout_s)

    def give_up(self, stuck: AnyDeployment) -> None:
        """Answers all that waits for an engine that does not come back, so that a drain can end soon.

        Requests to other models have half of the time that is left.
        """
        loop, refusal = asyncio.get_running_loop(), partial(EngineStuck, self.context.start_s + _GIVE_UP_S)
        stuck.abandon(refusal)
        for other in self.context.store:
            loop.call_later(_GIVE_UP_S / 2, other.abandon, refusal)
        self._gave_up_at = loop.time()
        self._shorten_drain()

    def _shorten_drain(self) -> None:
        if self._gave_up_at is None or self._drain_limit is None:
            return
        end, given = self._gave_up_at + _GIVE_UP_S, self._drain_limit.when()
        self._drain_limit.reschedule(end if given is None else min(end, given))

    async def close(self) -> None:
        """Ends what the drain has left."""
        self._loop_lag.stop()
        for runner in (self._runner, *self._runners.values()):
            await runner.cleanup()

    def _take(self, connection: socket.socket) -> bool:
        adopting = asyncio.ensure_future(self._adopt(connection))
        self._adopting.add(adopting)
        adopting.add_done_callback(self._adopting.discard)
        return True

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            await self.adopt(connection)
        except OSError:  # the client has left again
            connection.close()

    def _connect(self, runner: web.AppRunner) -> Connection:
        server, limits = self._config.server, self._config.limits
        assert runner.server is not None
        return Connection(
            runner.server,
            self._connections,
            limits,
            runner.app[DIALECTS].main.refuse,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=server.keepalive_timeout_s,
            access_log=self.context.access_log,
            access_log_class=lambda log, _: log,  # of all connections the same
            read_bufsize=_READ_BUFFER,
            lingering_time=_LINGERING_S,
            auto_decompress=False,
        )


def _rpc_listener(config: Config, context: Context) -> RpcListener | None:
    """Of --grpc-port."""
    if config.server.grpc_port == "off":
        return None
    # gRPC writes a line to the log for each fork while its threads run; forks of a worker only exec.
    is_given = _FORK_SUPPORT in os.environ
    os.environ.setdefault(_FORK_SUPPORT, "0")
    from server.dialects.open_inference.rpc.listener import RpcListener  # gRPC, which nothing else needs

    listener = RpcListener(config, context)
    if not is_given:
        del os.environ[_FORK_SUPPORT]  # handlers of archives may use gRPC themselves
    return listener


def _target_line(deployment: AnyDeployment) -> str:
    target_s = deployment.admission.target_s
    return (
        ""
        if target_s is None
        else f"\n    answers within {target_s * 1000:.0f} ms; what would take longer gets 503"
    )


async def serve(config: Config, bundles: Bundles, listening: Sequence[socket.socket]) -> NoReturn:
    """Serves in this process alone until SIGTERM, SIGINT or SIGHUP, then ends it; a second signal ends it at once.

    There is no supervisor, so an engine that hangs is not replaced: for programs that change what is served.

    The exit code is 0, or 1 when the drain left requests unanswered.

    Raises:
        ModelError: a model cannot be loaded.
    """
    stop = stop_on_signals()
    began = time.monotonic()
    service = Service(config, bundles)
    await service.start(listening)
    if not await loaded_before(stop, service):
        leave(ExitCode.OK)
    seconds, root_path = time.monotonic() - began, config.server.root_path
    why = reason(config.models, bundles)
    address = listening[0].getsockname()
    lines, further = service.describe(), (config.server.apis, config.torchserve)
    lines += rpc_lines(config)
    say(banner(lines, bundles, address, seconds, 1, root_path, why, *further))
    await stop.wait()
    service.context.leaving = True
    await shutdown_delay(config.server)
    await _stop(service)


async def loaded_before(stop: asyncio.Event, service: Service) -> bool:
    """Loads the models; False when `stop` came first: an engine that is being loaded cannot be interrupted.

    Raises:
        ModelError: a model cannot be loaded.
    """
    loading, stopping = asyncio.ensure_future(service.load()), asyncio.ensure_future(stop.wait())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not loading.done():
        return False
    loading.result()
    _freeze()
    service.watch_loop()
    return True


def _freeze() -> None:
    """Keeps what the start has made, torch above all, out of garbage collections: one of all of it takes 0.1 s."""
    gc.collect()
    gc.freeze()


async def _stop(service: Service) -> NoReturn:
    context, began = service.context, time.monotonic()
    before = context.answered
    say(stopping_line(context.in_flight))
    unanswered = await service.drain()
    say(drained_line(context.answered - before, unanswered, time.monotonic() - began))
    if not unanswered:
        await service.close()
    leave(
        ExitCode.UNANSWERED if unanswered else ExitCode.OK
    )  # without waiting for a thread that may be busy with an endless image
