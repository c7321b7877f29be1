"""Which models are to be served: the desired state, as data. Nothing here opens or loads anything."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from runtime.added_model import MOST_PROCESSES, AddedModel
from runtime.errors import LastModel, TooManyModels, UnknownModel, VersionInUse, VersionTaken
from runtime.record import require

FIXED_VERSION = "1"  # of the models that the command line names
MOST_MODELS = 1000  # added while the server runs

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Shadow:
    """A version that runs beside the default one, unseen by clients.

    Attributes:
        version: that runs.
        share: of the requests, above 0 and up to 1.
    """

    version: str
    share: float

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "share must be above 0 and at most 1")


@dataclass(frozen=True)
class Default:
    """The version of requests that name none.

    Attributes:
        version: now.
        before: the one that it replaced; "" where there is none to go back to.
    """

    version: str
    before: str = ""


@dataclass(frozen=True)
class ModelSet:
    """All models that are to be served. Each operation returns a new set, or raises a RuntimeFault.

    Attributes:
        fixed: names that the command line gives, each with version "1"; the first is the default model.
        added: versions that were added since, in that order.
        removed: names of `fixed` whose version "1" was removed.
        defaults: by name, where it was set.
        shadows: by name.
        processes: by name, of the engines of `fixed` models that were scaled.
    """

    fixed: tuple[str, ...]
    added: tuple[AddedModel, ...] = ()
    removed: tuple[str, ...] = ()
    defaults: Mapping[str, Default] = field(default_factory=dict)
    shadows: Mapping[str, Shadow] = field(default_factory=dict)
    processes: Mapping[str, int] = field(default_factory=dict)

    @property
    def default_name(self) -> str:
        """The model of requests that name none."""
        return self.fixed[0]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Name and version of everything, the models of the command line first."""
        added = {each.key for each in self.added}
        for name in self.fixed:
            if name not in self.removed and (name, FIXED_VERSION) not in added:
                yield name, FIXED_VERSION
        yield from (each.key for each in self.added)

    def versions(self, name: str) -> tuple[str, ...]:
        """The versions of a name, in the order in which they came; none for a name that is unknown."""
        return tuple(self._known.get(name, ()))

    @cached_property
    def _known(self) -> Mapping[str, Mapping[str, AddedModel | None]]:
        """By name and version, in the order in which they came."""
        added = {each.key: each for each in self.added}
        found: dict[str, dict[str, AddedModel | None]] = {}
        for name, version in self:
            found.setdefault(name, {})[version] = added.get((name, version))
        return found

    def default_of(self, name: str) -> str:
        """The version of requests for a name that name none. Raises UnknownModel."""
        versions = self.versions(name)
        if not versions:
            raise _unknown(name)
        given = self.defaults.get(name)
        return given.version if given and given.version in versions else versions[0]

    def before(self, name: str) -> str:
        """The default version before the present one, if it is still there; else ""."""
        given = self.defaults.get(name)
        return given.before if given and given.before in self.versions(name) else ""

    def find(self, name: str, version: str) -> AddedModel | None:
        """The version that was added; None for one of the command line. Raises UnknownModel."""
        self._check_known(name, version)
        return self._known[name][version]

    def first(self) -> tuple[tuple[str, str], ...]:
        """What a process is created with: the default version of each name, the default model first.

        Archives, and versions that are loaded on use, are left out, except that of the default model.
        """
        names = dict.fromkeys((self.default_name, *(name for name, _ in self)))
        keys = [(name, self.default_of(name)) for name in names]
        return tuple(key for key in keys if key[0] == self.default_name or not self._is_only_known(key))

    def _is_only_known(self, key: tuple[str, str]) -> bool:
        added = self.find(*key)
        return added is not None and (added.on_use or added.archive is not None)

    def processes_of(self, name: str, version: str) -> int:
        """Processes of its engine per worker, of an archive in all; 0: as the server is set.

        Raises:
            UnknownModel: it is not there.
        """
        added = self.find(name, version)
        if added and added.archive:
            return added.archive.min_workers
        return added.processes if added else self.processes.get(name, 0)

    def with_model(self, model: AddedModel) -> ModelSet:
        """With a further version, which becomes the default of a name that is new.

        Raises:
            VersionTaken: it is there.
            TooManyModels: as many as are allowed were added.
        """
        if model.version in self.versions(model.name):
            raise VersionTaken(f"{model.name} has a version {model.version}.")
        if len(self.added) >= MOST_MODELS:
            raise TooManyModels(f"{MOST_MODELS:,} models were added; remove one first.")
        first = {} if self.versions(model.name) else {model.name: Default(model.version)}
        return dataclasses.replace(self, added=(*self.added, model), defaults={**self.defaults, **first})

    def without(self, name: str, version: str) -> ModelSet:
        """Without a version.

        Raises:
            UnknownModel: it is not there.
            VersionInUse: it is the default one among several.
            LastModel: it is all that there is of the default model.
        """
        self._check_known(name, version)
        versions = self.versions(name)
        if len(versions) > 1 and version == self.default_of(name):
            raise VersionInUse(
                f"Version {version} is the default one of {name}; make another one the default first."
            )
        if len(versions) == 1 and name == self.default_name:
            raise LastModel(f"{name} is the default model, and {version} its last version.")
        return self._forgetting(name, version)

    def without_archives(self) -> ModelSet:
        """Without any model archive."""
        rest = tuple(each for each in self.added if each.archive is None)
        return dataclasses.replace(self, added=rest).of_models_that_are_there()

    def without_starting(self) -> ModelSet:
        """Without the workers for which requests wait: what was to start them is no more."""
        models = self
        for each in self.added:
            models = models.not_started(*each.key, removes=False)
        return models

    def _forgetting(self, name: str, version: str) -> ModelSet:
        is_fixed = not any(each.key == (name, version) for each in self.added)
        shadow, is_last = self.shadows.get(name), len(self.versions(name)) == 1
        return dataclasses.replace(
            self,
            added=tuple(each for each in self.added if each.key != (name, version)),
            removed=(*self.removed, name) if is_fixed else self.removed,
            processes=_less(self.processes, name) if is_fixed else self.processes,
            shadows=_less(self.shadows, name) if shadow and shadow.version == version else self.shadows,
            defaults=_less(self.defaults, name) if is_last else self._defaults_without(name, version),
        )

    def _defaults_without(self, name: str, version: str) -> Mapping[str, Default]:
        """There is no way back to it, nor to another version that takes its number."""
        given = self.defaults.get(name)
        if given is None or given.before != version:
            return self.defaults
        return {**self.defaults, name: Default(given.version)}

    def with_default(self, name: str, version: str, undoing: bool = False) -> ModelSet:
        """With another default version of a name. Its shadow, if it was one, ends.

        Args:
            name: of the model.
            version: of requests that name none.
            undoing: the present default has failed: there is no way back to it.

        Raises:
            UnknownModel: it is not there.
        """
        self._check_known(name, version)
        now = self.default_of(name)
        if version == now:
            return self
        shadow = self.shadows.get(name)
        shadows = _less(self.shadows, name) if shadow and shadow.version == version else self.shadows
        default = Default(version, "" if undoing else now)
        return dataclasses.replace(self, defaults={**self.defaults, name: default}, shadows=shadows)

    def with_shadow(self, name: str, shadow: Shadow) -> ModelSet:
        """With a version that shadows the default one.

        Raises:
            UnknownModel: it is not there.
            VersionInUse: it is the default one.
        """
        self._check_known(name, shadow.version)
        if shadow.version == self.default_of(name):
            raise VersionInUse(f"Version {shadow.version} is the default one of {name}; it cannot shadow itself.")
        return dataclasses.replace(self, shadows={**self.shadows, name: shadow})

    def without_shadow(self, name: str) -> ModelSet:
        """Without the shadow of a name. Raises UnknownModel where there is none."""
        self.default_of(name)
        if name not in self.shadows:
            raise UnknownModel(f"{name} has no shadow.")
        return dataclasses.replace(self, shadows=_less(self.shadows, name))

    def scaled(self, name: str, version: str, processes: int, most: int = 0) -> ModelSet:
        """With another number of processes of an engine.

        Args:
            name: of the model.
            version: of it.
            processes: of the engine, per worker; of an archive in all, where 0 means that requests are refused.
            most: of an archive: how many may be asked for; at least `processes`.

        Raises:
            UnknownModel: it is not there.
            RecordError: there cannot be so many.
        """
        model = self.find(name, version)
        least = 0 if model and model.archive else 1
        require(least <= processes <= MOST_PROCESSES, f"processes must be between {least} and {MOST_PROCESSES}")
        if model is None:
            return dataclasses.replace(self, processes={**self.processes, name: processes})
        if model.archive:
            most = max(processes, most)
            return self._with_archive(model, min_workers=processes, max_workers=most, is_starting=False)
        return self._with(model, dataclasses.replace(model, processes=processes))

    def starting(self, name: str, version: str, processes: int, most: int = 0) -> ModelSet:
        """With an idle archive for whose workers requests wait until `started`; one that has workers is as it was.

        Args:
            name: of the model.
            version: of it.
            processes: that it gets; with 0 it is as it was.
            most: how many may be asked for.

        Raises:
            UnknownModel: it is not there.
            RecordError: there cannot be so many.
        """
        model = self.find(name, version)
        if model is None or not model.is_idle or not processes:
            return self
        scaled = self.scaled(name, version, processes, most)
        return scaled._with_archive(scaled.find(name, version), is_starting=True)

    def started(self, name: str, version: str) -> ModelSet:
        """With the workers for which requests wait; where none do, it is as it was. Raises UnknownModel."""
        model = self.find(name, version)
        return self._with_archive(model, is_starting=False) if model and model.is_starting else self

    def not_started(self, name: str, version: str, removes: bool) -> ModelSet:
        """Without the workers for which requests wait; where none do, it is as it was.

        Args:
            name: of the model.
            version: of it.
            removes: it is removed where it can be, else without workers.

        Raises:
            UnknownModel: it is not there.
        """
        model = self.find(name, version)
        if model is None or not model.is_starting:
            return self
        if removes:
            with contextlib.suppress(VersionInUse, LastModel):
                return self.without(name, version)
        return self._with_archive(model, min_workers=0, is_starting=False)

    def _with_archive(self, model: AddedModel | None, **changed: Any) -> ModelSet:
        assert model is not None and model.archive is not None
        archive = dataclasses.replace(model.archive, **changed)
        return self._with(model, dataclasses.replace(model, archive=archive))

    def _with(self, model: AddedModel, changed: AddedModel) -> ModelSet:
        return dataclasses.replace(self, added=tuple(changed if each is model else each for each in self.added))

    def of_models_that_are_there(self) -> ModelSet:
        """Without what concerns models that are no more."""
        has_versions = any(each.name == self.default_name for each in self.added)
        kept = (self.default_name,) if not has_versions else ()
        known = dataclasses.replace(
            self, removed=tuple(name for name in self.removed if name in self.fixed and name not in kept)
        )
        return dataclasses.replace(
            known,
            defaults={name: each for name, each in self.defaults.items() if each.version in known.versions(name)},
            shadows={name: each for name, each in self.shadows.items() if each.version in known.versions(name)},
            processes={name: count for name, count in self.processes.items() if name in self.fixed},
        )

    def _check_known(self, name: str, version: str) -> None:
        versions = self._known.get(name)
        if not versions:
            raise _unknown(name)
        if version not in versions:
            there = ", ".join(self.versions(name)[:20])
            raise UnknownModel(f"{name} has no version of that name; there are {there}.")


def _unknown(name: str) -> UnknownModel:
    return UnknownModel(f"No model is called {name[:80]!r}.")


def _less(mapping: Mapping[str, _Value], name: str) -> dict[str, _Value]:
    return {key: value for key, value in mapping.items() if key != name}
