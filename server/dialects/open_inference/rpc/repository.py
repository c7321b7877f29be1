"""Calls that change models: those with a token are passed on to the port of management, which checks it."""

from __future__ import annotations

from urllib.parse import quote

import aiohttp
from yarl import URL

from batching import DeadlineExceeded
from runtime.errors import ChangeFailed
from server.config import ManagementConfig
from server.http.faults import Fault, Refusal

_RETRY = "Retry-After"
_LOCAL = "127.0.0.1"  # where a port listens on all addresses


class ManagedRepository:
    """The repository on the port of management."""

    def __init__(self, config: ManagementConfig) -> None:
        """Creates it; config: with the port as it was chosen."""
        self._origin = URL.build(
            scheme="http", host=config.management_host or _LOCAL, port=int(config.management_port)
        )

    async def change(self, name: str, action: str, authorization: str, timeout_s: float | None) -> None:
        """Changes the models of all workers.

        Args:
            name: of the model.
            action: "load" or "unload".
            authorization: the call's, `Bearer TOKEN`.
            timeout_s: that the client gives; None: as long as the change takes.

        Raises:
            Refusal: it is refused, in the words of that port.
            ChangeFailed: nothing answers there: the server stops.
            DeadlineExceeded: the client's time is over. The change goes on.
        """
        path = f"/v2/repository/models/{quote(name, safe='')}/{action}"
        url = self._origin.join(URL(path, encoded=True))
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers={"Authorization": authorization}) as session,
                session.post(url, data=b"{}") as answer,
            ):
                if answer.status == 200:
                    return
                document, headers = await answer.json(), answer.headers
        except TimeoutError:
            raise DeadlineExceeded from None
        except aiohttp.ClientError:
            raise ChangeFailed("The models cannot be changed while the server stops.") from None
        kept = {_RETRY: headers[_RETRY]} if _RETRY in headers else {}
        text = str(document["error"])
        raise Refusal(Fault(answer.status, "not-changed", "The models were not changed", text, headers=kept))
