"""The port of gRPC in one process."""

from __future__ import annotations

import grpc

from server.config import Config
from server.dialects.open_inference.rpc.bounded import BoundedMessages
from server.dialects.open_inference.rpc.generated.open_inference_pb2_grpc import (
    add_GRPCInferenceServiceServicer_to_server,
)
from server.dialects.open_inference.rpc.service import InferenceService
from server.http.context import Context
from server.operations.rpc_port import address_of
from server.operations.tls import read_certificate

_MOST_AT_ONCE = 4096  # calls in flight, streams among them
_MOST_OF_CONNECTION = 512  # of them of one connection; further ones wait in the client
# Then a connection takes no further calls, and its client opens another one, which may fall on another worker.
_CONNECTION_AGE_MS = 60_000


class RpcListener:
    """Listens on --grpc-port, on the running event loop, together with the other workers."""

    def __init__(self, config: Config, context: Context) -> None:
        """Creates it; `start` begins to listen.

        Args:
            config: of this process, with the port as it was reserved.
            context: of this process.

        Raises:
            ConfigError: the certificate cannot be read.
        """
        self._service = InferenceService(context)
        self._server = grpc.aio.server(
            interceptors=[BoundedMessages(self._service.refuse)],
            options=[
                ("grpc.so_reuseport", 1),  # the kernel distributes connections among the workers
                ("grpc.max_receive_message_length", int(config.limits.max_body_mb * 1_000_000)),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", _MOST_OF_CONNECTION),
                ("grpc.max_connection_idle_ms", int(config.server.keepalive_timeout_s * 1000)),
                ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
                ("grpc.server_handshake_timeout_ms", int(config.limits.header_timeout_s * 1000)),
            ],
            maximum_concurrent_rpcs=_MOST_AT_ONCE,
        )
        add_GRPCInferenceServiceServicer_to_server(self._service, self._server)
        self._listen(config)

    def _listen(self, config: Config) -> None:
        address = address_of(config.server)
        if (certificate := read_certificate(config.torchserve)) is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, grpc.ssl_server_credentials([certificate]))

    async def start(self) -> None:
        """Begins to take calls."""
        await self._server.start()

    async def drain(self, grace_s: float) -> None:
        """Takes no further calls, and waits for those that run; those that take longer are cancelled."""
        self._service.stop_streams()
        await self._server.stop(grace_s)
