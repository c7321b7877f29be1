"""Parts of responses before their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.handlers.context import Context


class ClientLeft(Exception):
    """All clients of the batch have left; a handler that does not catch it ends its work."""


def send_intermediate_predict_response(
    ret: Sequence[Any], req_id_map: Mapping[int, str], message: str, code: int, context: Context | None = None
) -> bool:
    """Sends a part of the response to each request of the batch.

    Args:
        ret: a part per request, of the kinds that a handler returns.
        req_id_map: `context.request_ids`.
        message: phrase behind the status.
        code: HTTP status, where the handler has set none.
        context: of the handler.

    Returns:
        True.

    Raises:
        ClientLeft: all clients of the batch have left.
        ValueError: there are more or fewer parts than requests.
    """
    if context is None or context.cl_socket is None:
        raise ValueError("parts of a response need the context of a batch")
    if len(ret) != len(req_id_map):
        raise ValueError(f"{len(ret)} part(s) for {len(req_id_map)} request(s)")
    context.cl_socket.send_parts(ret, message, code)
    return True
