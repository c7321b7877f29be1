"""The models in service, by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from runtime.deployment import Deployment
from runtime.errors import ModelLoading, ModelUnloaded, UnknownModel
from runtime.model import Model
from runtime.observer import Observer

AnyModel = Model[Any, Any]
AnyDeployment = Deployment[Any, Any]


class ModelStore:
    """Deploys models, finds the one that a request names, and closes them.

    Attributes:
        models: in service or loading, by name; the first is the default.
        expected_at: monotonic time at which the models will probably be loaded; 0: unknown.
    """

    def __init__(
        self,
        models: Mapping[str, AnyModel],
        deploy: Callable[[AnyModel], AnyDeployment],
        observer: Observer | None = None,
    ) -> None:
        """Creates it; `load` then loads the models.

        Args:
            models: by name, at least one.
            deploy: makes the deployment of a model, which is not started yet.
            observer: is told which models are in service.
        """
        self.models = dict(models)
        self.expected_at = 0.0
        self._deploy = deploy
        self._observer = observer
        self._deployments: dict[str, AnyDeployment] = {}
        self._users: dict[AnyDeployment, int] = {}
        self._unused = asyncio.Condition()

    @property
    def default(self) -> str:
        """Name of the model of a request that names none."""
        return next(iter(self.models))

    @property
    def ready(self) -> bool:
        """Whether every model is loaded, warm and open."""
        return self._deployments.keys() == self.models.keys() and all(each.is_open for each in self)

    def __iter__(self) -> Iterator[AnyDeployment]:
        return iter(self._deployments.values())

    def loaded(self, name: str) -> AnyDeployment | None:
        """The deployment of that name, if it is loaded."""
        return self._deployments.get(name)

    def find(self, name: str | None) -> AnyDeployment:
        """The deployment of that name, or the default one.

        Raises:
            UnknownModel: there is none of that name.
            ModelLoading: it is still loading.
        """
        name = self.default if name is None else name
        deployment = self._deployments.get(name)
        if deployment is not None:
            return deployment
        if name in self.models:
            raise self.loading()
        raise UnknownModel("No model of that name is loaded.")

    def peek(self, name: str | None) -> AnyDeployment | None:
        """The deployment of that name. Raises as `find` does."""
        return self.find(name)

    def loading(self) -> ModelLoading:
        """The error of a request that comes while the models are loading."""
        return ModelLoading("the models are loading", max(1.0, self.expected_at - time.monotonic()))

    def use(self, name: str | None) -> Use:
        """An async context in which the deployment of that name stays loaded; entering raises as `find` does."""
        return Use(self, name)

    async def load(self) -> None:
        """Loads every model, one after the other, and warms each up. Raises ModelError."""
        for name in list(self.models):
            await self._load(name)

    async def add(self, name: str, model: AnyModel) -> AnyDeployment:
        """Loads a further model. Raises ModelError, and is then as before; ValueError for a name that is taken."""
        if name in self.models:
            raise ValueError(f"a model of the name {name} is in service")
        self.models[name] = model
        try:
            return await self._load(name)
        except BaseException:
            del self.models[name]
            raise

    async def remove(self, name: str) -> None:
        """Takes a model out of service, waits for the requests that use it, and frees it. Raises UnknownModel."""
        deployment = self.find(name)
        del self.models[name], self._deployments[name]
        async with self._unused:
            await self._unused.wait_for(lambda: deployment not in self._users)
        await self._close(name, deployment)

    async def close(self) -> None:
        """Runs what is queued, then frees every model."""
        for name, deployment in list(self._deployments.items()):
            await self._close(name, deployment)

    async def _load(self, name: str) -> AnyDeployment:
        deployment = self._deploy(self.models[name])
        await deployment.start()
        if name not in self.models:
            await deployment.close()
            raise ModelUnloaded("The model was unloaded while it was loading.")
        if self._observer:
            self._observer.deployed(name, deployment)
        self._deployments[name] = deployment
        return deployment

    async def _close(self, name: str, deployment: AnyDeployment) -> None:
        await deployment.close()
        if self._observer:
            self._observer.removed(name)


class Use:
    """One request's use of a deployment; `ModelStore.remove` waits for its end."""

    __slots__ = ("_deployment", "_name", "_store")

    def __init__(self, store: ModelStore, name: str | None) -> None:
        self._store = store
        self._name = name

    async def __aenter__(self) -> AnyDeployment:
        self._deployment = self._store.find(self._name)
        users = self._store._users
        users[self._deployment] = users.get(self._deployment, 0) + 1
        return self._deployment

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        users, left = self._store._users, self._store._users[self._deployment] - 1
        if left:
            users[self._deployment] = left
            return
        del users[self._deployment]
        if self._deployment.model.facts.name not in self._store.models:
            async with self._store._unused:
                self._store._unused.notify_all()
