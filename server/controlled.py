"""What `Control` needs of the models of its process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from runtime.added_model import GoldenAsked
from runtime.model_set import Shadow
from runtime.stay import AnyDeployment, Use
from runtime.version import AnyModel
from runtime.version_status import VersionStatus

Judge = Callable[[AnyDeployment], Awaitable[None]]


class Store(Protocol):
    """What is needed of `ModelStore`; see there."""

    async def load(self) -> None:
        """Loads what it was created with. Raises ModelError."""
        ...

    async def add(self, name: str, version: str, model: AnyModel, judge: Judge | None = None, /) -> AnyDeployment:
        """Loads a version and warms it up. Raises ModelError, VersionTaken."""
        ...

    def register(self, name: str, version: str, model: AnyModel, /) -> None:
        """Makes a version known, which is loaded on first use."""
        ...

    def register_idle(self, name: str, version: str, /) -> None:
        """Makes a version known that has no workers."""
        ...

    def is_awake(self, name: str, version: str, /) -> bool:
        """Whether it is there, and requests reach it."""
        ...

    async def load_idle(self, name: str, version: str, model: AnyModel, /) -> None:
        """Loads a version that has no workers, out of reach of requests. Raises ModelError."""
        ...

    def expect(self, name: str, version: str, workers: bool, /) -> None:
        """Lets requests wait for the workers of a version, or not any more."""
        ...

    async def until_workers(self, name: str, version: str, deadline: float | None, /) -> None:
        """Waits for workers that are being started. Raises NoWorkers, UnknownModel."""
        ...

    def wake(self, name: str, version: str, /) -> None:
        """Lets requests reach it."""
        ...

    async def rest(self, name: str, version: str, /) -> None:
        """Refuses requests for a version, waits for its users, and frees it."""
        ...

    async def remove(self, name: str, version: str, /) -> None:
        """Gives a version no new users, waits for those that it has, and frees it."""
        ...

    def set_default(self, name: str, version: str, /) -> None:
        """Gives a version the requests that name none."""
        ...

    async def scale(self, name: str, version: str, processes: int, /) -> None:
        """Runs an engine in so many processes. Raises NotScalable, ModelError."""
        ...

    def use(self, name: str, version: str, deadline: float | None, /) -> Use:
        """An async context in which the deployment of a version stays loaded."""
        ...

    def status(self) -> Sequence[VersionStatus]:
        """What is known of every version."""
        ...


class Guard(Protocol):
    """What watches over new versions; see `server.guard.Guard`."""

    on_unhealthy: Callable[[str, str, str], None]

    def begin(self) -> None:
        """Watches the default versions of the start."""
        ...

    async def judge(self, deployment: AnyDeployment, asked: GoldenAsked | None, /) -> None:
        """Runs the golden set of a version that was loaded. Raises ModelError with the reason if it fails."""
        ...

    def renew(self, name: str, /) -> None:
        """Watches what is now loaded of a default version."""
        ...

    def watch(self, name: str, version: str) -> None:
        """Begins to count the errors of a version that became the default."""
        ...

    def shadow(self, name: str, asked: Shadow | None, /) -> None:
        """Begins to run a version beside the default one; None: ends that."""
        ...

    def report(self, name: str) -> Mapping[str, Any]:
        """How the shadow of a model compares, in this process."""
        ...
