"""The models as clients of the management API see them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from runtime.errors import ChangeFailed, NoWorkers
from runtime.folder import StoreFolder
from runtime.model_set import ModelSet
from runtime.transition import Key
from server.config import Config
from server.dialects.torchserve.management import words
from server.dialects.torchserve.management.changer import Changer
from server.dialects.torchserve.management.description import Facts, Observed, description, observed
from server.dialects.torchserve.management.other_models import (
    AnyShown,
    NamedModel,
    asked_of,
    limits_of,
    shown,
)
from server.dialects.torchserve.management.worker_numbers import WorkerNumbers
from server.dialects.torchserve.management.yaml_files import YamlFiles


class ShownModels:
    """Finds and describes them. Its errors are Refusals in TorchServe's words.

    Attributes:
        pending: fewest and most workers of archives that a change under way is to give.
    """

    def __init__(self, config: Config, changes: Changer, folder: StoreFolder | None) -> None:
        """Creates it.

        Args:
            config: of the service.
            changes: of all workers.
            folder: the model store; None without one.
        """
        self.pending: dict[Key, tuple[int, int]] = {}
        self._config = config
        self._changes = changes
        self._numbers = WorkerNumbers()
        self._facts = Facts("gpu" if config.models.device == "cuda" else "cpu", config.torchserve.job_queue_size)
        self._counted: dict[Key, int] = {}  # workers of models that are no archives, when they were last asked
        self._yaml = YamlFiles(folder)
        self.count_workers()

    def names(self) -> dict[str, AnyShown]:
        """The default version of each name, sorted by name."""
        models = self._changes.committed
        found = {each.name: each for each in shown(models, self._config) if _is_default(models, each)}
        return {name: found[name] for name in sorted(found)}

    def versions(self, name: str) -> dict[str, AnyShown]:
        """Those of a name. Raises Refusal."""
        models = shown(self._changes.committed, self._config)
        found = {each.version: each for each in models if each.name == name}
        if not found:
            raise words.unknown_model(name)
        return found

    def find(self, name: str, version: str | None) -> AnyShown:
        """One version, by default the default one. Raises Refusal."""
        versions = self.versions(name)
        wanted = self._changes.committed.default_of(name) if version is None else version
        if wanted not in versions:
            raise words.unknown_version(name, wanted)
        return versions[wanted]

    def check_known(self, name: str) -> None:
        """Raises Refusal for a name that is not shown."""
        self.versions(name)

    def has_workers(self, name: str) -> bool:
        """Whether the default version has workers, those that are loading too. Raises Refusal."""
        model = self.find(name, None)
        return bool(self.workers_of(model)[0])

    def workers_of(self, model: AnyShown) -> tuple[int, int]:
        """Fewest and most workers that it is to have."""
        if model.archive is None:
            count = self._counted.get(model.key, max(1, self._config.server.workers))
            return count, count
        return self.pending.get(model.key, (model.archive.min_workers, model.archive.max_workers))

    def count_workers(self) -> None:
        """Notes when workers come and go: call it after each change."""
        models = shown(self._changes.committed, self._config)
        self._numbers.update({each.key: self.workers_of(each)[0] for each in models})

    async def describe(
        self, name: str, version: str | None, is_all: bool, headers: Mapping[str, str] | None
    ) -> list[dict[str, Any]]:
        """The objects of one version, or of all.

        Args:
            name: of the model.
            version: of it; None for the default one.
            is_all: every version is described.
            headers: of a request that asks for the handler's description; None: it does not.
        """
        models = list(self.versions(name).values()) if is_all else [self.find(name, version)]
        if headers is not None and not is_all and not self.workers_of(models[0])[0]:
            raise words.nobody_describes(name)
        status, pids = await self._changes.show(), self._changes.pids()
        seen = [observed(model, status, pids) for model in models]
        self._counted |= {
            model.key: len(each.pids) for model, each in zip(models, seen, strict=True) if not model.archive
        }
        self.count_workers()
        found = [await self._described(model, each) for model, each in zip(models, seen, strict=True)]
        if headers is not None and not is_all and models[0].archive:
            found[0]["customizedMetadata"] = await self._metadata(models[0], headers)
        return found

    async def _described(self, model: AnyShown, seen: Observed) -> dict[str, Any]:
        least, most = self.workers_of(model)
        if model.archive:
            asked = dataclasses.replace(model.archive, min_workers=least, max_workers=most)
            yaml = await asyncio.to_thread(self._yaml.of, model.path)
        else:
            asked = asked_of(self._config, least, isinstance(model, NamedModel))
            yaml = limits_of(self._config)
        return description(model, asked, yaml, self._numbers.of(model.key), seen, self._facts)

    async def _metadata(self, model: AnyShown, headers: Mapping[str, str]) -> Any:
        try:
            return await self._changes.describe(*model.key, headers)
        except NoWorkers:
            raise words.nobody_describes(model.name) from None
        except ChangeFailed as error:
            raise words.not_changed(str(error)) from None


def _is_default(models: ModelSet, model: AnyShown) -> bool:
    return models.default_of(model.name) == model.version
