"""The port on which models are managed."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from server.config import Config
from server.http.connection import Connection
from server.http.connections import Connections
from server.management.handlers import Changer, Management
from server.management.token import Token
from server.model_options import store_folder

_MOST_CONNECTIONS = 64
_SHUTDOWN_S = 1.0  # for answers that are being sent


class ManagementListener:
    """Listens on a socket, on the running event loop."""

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
        self._limits = config.limits
        self._listening = listening
        self._runner = web.AppRunner(management.app(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        self._connections = Connections(most=_MOST_CONNECTIONS)
        self._server: asyncio.Server | None = None

    @property
    def line(self) -> str:
        """Where models are managed, for the terminal."""
        host, port = self._listening.getsockname()[:2]
        return f"models are managed on http://{f'[{host}]' if ':' in host else host}:{port}, token {self._where}"

    async def start(self) -> None:
        """Begins to listen."""
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(self._connect, sock=self._listening)

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
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,
        )
