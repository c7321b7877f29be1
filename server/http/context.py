"""What all requests of one application share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from runtime.cpu_pool import CpuPool
from runtime.errors import EngineStuck
from runtime.processes.spares import Spares
from runtime.store import ModelStore
from server.config import Config
from server.http.body import BodyReader
from server.http.faults import Draining, Leaving
from server.http.forwarded import Proxies
from server.operations.access_log import AccessLog
from server.operations.metrics import Metrics


@dataclass
class Context:
    """The application's state.

    Attributes:
        config: of this process.
        store: the models in service.
        metrics: for Prometheus.
        cpu_pool: where inputs are prepared.
        spares: from which the processes of engines are forked.
        bodies: reads them.
        proxies: in front.
        access_log: None unless it is on.
        leaving: set when the server is to stop: it still takes requests, and says that it is not ready.
        draining: set when the server stops: every response then closes its connection.
        in_flight: requests in flight.
        answered: requests answered since the start.
        ready_workers: workers that are ready, by the supervisor's count; None where there is none.
        start_s: how long the start of a process takes, in seconds.
        check_key: called with the name and version that a request names and its header Authorization; raises
            Unauthorized where the model wants a key. None: no model does.
    """

    config: Config
    store: ModelStore
    metrics: Metrics
    cpu_pool: CpuPool
    spares: Spares
    bodies: BodyReader
    proxies: Proxies
    access_log: AccessLog | None = None
    leaving: bool = False
    draining: bool = False
    in_flight: int = 0
    answered: int = 0
    ready_workers: int | None = None
    start_s: float = 1.0
    check_key: Callable[[str | None, str | None, str], None] | None = None

    def check_ready(self) -> None:
        """Raises unless a worker can answer new requests.

        Raises:
            Draining, Leaving: the server stops.
            ModelLoading, EngineUnavailable, EngineStuck: what keeps a model from it.
        """
        if self.draining:
            raise Draining
        if self.leaving:
            raise Leaving
        unavailable = self.store.unavailable()
        if self.ready_workers or (self.ready_workers is None and self.store.ready and not unavailable):
            return
        if unavailable:
            raise unavailable
        raise EngineStuck(self.start_s) if self.store.ready else self.store.loading()


CONTEXT = web.AppKey("context", Context)
