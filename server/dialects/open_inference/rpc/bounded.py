"""Messages that are too large in memory are refused before they are parsed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from server.dialects.open_inference.rpc.parts import INFERENCE, check_parts
from server.http.faults import BodyTooLarge

_INFERENCES = ("ModelInfer", "ModelStreamInfer")
_MOST_BYTES = 100_000  # of the messages of all other calls

Refuse = Callable[[Any, BodyTooLarge], Awaitable[None]]


class BoundedMessages(grpc.aio.ServerInterceptor):
    """Looks at each message of each call.

    A call with one message that is too large is ended; in a stream the error takes the place of its message.
    """

    def __init__(self, refuse: Refuse) -> None:
        """Creates it; refuse: ends a call with an error."""
        self._refuse = refuse

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """The handler of a call, with a parser that looks first."""
        handler = await continuation(details)
        if handler is None:
            return None
        method, parse = details.method.rpartition("/")[2], handler.request_deserializer

        def checked(data: bytes) -> Any:
            try:
                _check(method, data)
            except BodyTooLarge as error:
                return error
            return parse(data)

        async def answer(request: Any, call: Any) -> Any:
            if isinstance(request, BodyTooLarge):
                await self._refuse(call, request)
            return await handler.unary_unary(request, call)

        if handler.request_streaming:
            return handler._replace(request_deserializer=checked)
        return handler._replace(request_deserializer=checked, unary_unary=answer)


def _check(method: str, data: bytes) -> None:
    """Raises BodyTooLarge."""
    if method in _INFERENCES:
        check_parts(data, INFERENCE)
    elif len(data) > _MOST_BYTES:
        text = f"The message has {len(data):,} bytes, at most {_MOST_BYTES:,} are allowed."
        raise BodyTooLarge(text, _MOST_BYTES, len(data))
