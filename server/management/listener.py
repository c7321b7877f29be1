"""Ports on which models are managed."""

from __future__ import annotations

import asyncio
import socket
import ssl

from aiohttp import web

from server.config import Config, LimitConfig
from server.http.connection import Connection, Refuse
from server.http.connections import Connections
from server.http.problem import problem_response
from server.management.changer import Changer
from server.management.handlers import Management
from server.management.token import Token
from server.model_options import store_folder

_MOST_CONNECTIONS = 64
_SHUTDOWN_S = 1.0  # for answers that are being sent


class Listener:
    """Answers on a socket, on the running event loop of the supervisor."""

    def __init__(
        self,
        app: web.Application,
        limits: LimitConfig,
        listening: socket.socket,
        tls: ssl.SSLContext | None = None,
        refuse: Refuse = problem_response,
    ) -> None:
        """Creates it.

        Args:
            app: that answers.
            limits: of the time of a connection.
            listening: where requests come.
            tls: of clients that speak HTTPS.
            refuse: makes the response to a request that the application does not see.
        """
        self._limits = limits
        self._listening = listening
        self._tls = tls
        self._refuse = refuse
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        self._connections = Connections(most=_MOST_CONNECTIONS)
        self._server: asyncio.Server | None = None

    @property
    def line(self) -> str:
        """Its line in the banner; "" for none."""
        return ""

    @property
    def address(self) -> str:
        """HOST:PORT."""
        host, port = self._listening.getsockname()[:2]
        return f"{f'[{host}]' if ':' in host else host}:{port}"

    async def start(self) -> None:
        """Begins to listen."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, sock=self._listening, ssl=self._tls)

    async def close(self) -> None:
        """Takes no further request, and ends what is left."""
        if self._server:
            self._server.close()
        self._connections.close_idle()
        await self._runner.cleanup()

    def _connect(self) -> Connection:
        assert self._runner.server is not None
        return Connection(
            self._runner.server,
            self._connections,
            self._limits,
            self._refuse,
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,
        )


class ManagementListener(Listener):
    """The API of `snapserve models`, with a token."""

    def __init__(self, config: Config, changes: Changer, listening: socket.socket) -> None:
        """Creates it.

        Args:
            config: of the service.
            changes: of all workers.
            listening: where requests come.

        Raises:
            ConfigError: the token cannot be read.
            ModelError: the model store cannot be read.
        """
        file = config.management.management_token_file
        self._token = Token.read(file) if file else Token.new()
        self._where = str(file) if file else self._token.text
        management = Management(changes, store_folder(config.models), self._token, config.limits)
        super().__init__(management.app(), config.limits, listening)

    @property
    def line(self) -> str:
        """Where models are managed, for the terminal."""
        return f"models are managed on http://{self.address}, token {self._where}"
