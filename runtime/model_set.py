"""Which models are to be served: the desired state, as data. Nothing here opens or loads anything."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from runtime.errors import LastModel, TooManyModels, UnknownModel, VersionInUse, VersionTaken
from runtime.record import RecordError, check_names, read_record

FIXED_VERSION = "1"  # of the models that the command line names
MOST_MODELS = 1000  # added while the server runs
MOST_PROCESSES = 64
RUNNERS = ("auto", "thread", "process")
KINDS = IMAGE, TENSOR, ARCHIVE = "image", "tensor", "archive"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_TEXT = 1024
_MOST = 1_000_000_000  # of a setting of an archive; the server has limits of its own

_Value = TypeVar("_Value")


def is_name(text: str) -> bool:
    """Whether a text can name a model or a version: up to 64 letters, digits, ".", "_" and "-"."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class GoldenAsked:
    """What a new version must reach on images with expected labels.

    Attributes:
        folder: of the images, below the model store; "": `golden/` in the bundle.
        least_agreement: share of expected labels, 0 to 1; 0: the server's setting.
        max_latency_ms: longest time of an image; 0: no limit.
    """

    folder: str = ""
    least_agreement: float = 0.0
    max_latency_ms: float = 0.0

    def __post_init__(self) -> None:
        _check(len(self.folder) <= _LONGEST_TEXT, "folder is too long")
        _check(0 <= self.least_agreement <= 1, "least_agreement must be between 0 and 1")
        _check(0 <= self.max_latency_ms <= 3_600_000, "max_latency_ms must be between 0 and 3600000")


@dataclass(frozen=True)
class ArchiveAsked:
    """How a model archive is run; what is 0 or "" is as the archive says, or the default.

    Attributes:
        handler: file, module:function or built-in handler that takes the place of the manifest's.
        batch_size: most requests that a handler gets at once.
        max_batch_delay_ms: longest wait for a batch to fill.
        response_timeout_s: longest time for a batch.
        startup_timeout_s: longest time to load.
        min_workers: processes that run, of all workers of the server together; 0: none, and requests are refused.
        max_workers: processes that may be asked for.
        is_loaded_at_start: it was named at the start of the server.
        is_starting: its workers are started by a later change; until then requests wait for them.
        url: that a client has named, where it is not the path; a copy of what is there lies at the path.
    """

    handler: str = ""
    batch_size: int = 1
    max_batch_delay_ms: int = 100
    response_timeout_s: int = 120
    startup_timeout_s: int = 120
    min_workers: int = 0
    max_workers: int = 0
    is_loaded_at_start: bool = False
    is_starting: bool = False
    url: str = ""

    def __post_init__(self) -> None:
        for text in (self.handler, self.url):
            _check(len(text) <= _LONGEST_TEXT, f"a text has more than {_LONGEST_TEXT} characters")
        for name in ("min_workers", "max_workers"):
            _check(0 <= getattr(self, name) <= MOST_PROCESSES, f"{name} must be between 0 and {MOST_PROCESSES}")
        for name in ("batch_size", "max_batch_delay_ms", "response_timeout_s", "startup_timeout_s"):
            _check(0 <= getattr(self, name) <= _MOST, f"{name} must be between 0 and {_MOST}")


@dataclass(frozen=True)
class AddedModel:
    """A version that was added while the server runs.

    Attributes:
        name: of the model.
        version: of it.
        path: of its bundle or file, below the model store.
        kind: one of `KINDS`: an image classifier; a program of any signature, without labels and golden set; or a
            model archive, which has its own settings.
        on_use: it is loaded on first use, and may be evicted.
        labels: of a TorchScript file: a label file, below the model store; "": what the file says.
        preprocess: of a TorchScript file: a preset, or a JSON file below the model store.
        activation: of a TorchScript file: softmax, sigmoid or none.
        output: of a TorchScript file: the one that holds the scores.
        batchable: whether its items may share a batch.
        runner: where its engine runs; "auto": as the server is set.
        processes: of its engine, per worker; 0: as the server is set.
        golden: what it must reach before it is served; None: nothing.
        archive: of a model archive: how it is run.
    """

    name: str
    version: str
    path: str
    kind: str = IMAGE
    on_use: bool = False
    labels: str = ""
    preprocess: str = ""
    activation: str = ""
    output: str = ""
    batchable: bool = True
    runner: str = "auto"
    processes: int = 0
    golden: GoldenAsked | None = None
    archive: ArchiveAsked | None = None

    def __post_init__(self) -> None:
        for each in (self.name, self.version):
            rule = 'up to 64 letters, digits, ".", "_" and "-", the first a letter or digit'
            _check(is_name(each), f"{each[:80]!r} is no name of a model or version: {rule}")
        for each in (self.path, self.labels, self.preprocess, self.activation, self.output):
            _check(len(each) <= _LONGEST_TEXT, f"a text has more than {_LONGEST_TEXT} characters")
        _check(self.path != "", "path is empty")
        _check(self.kind in KINDS, f"kind must be one of {', '.join(KINDS)}")
        _check(
            self.kind == IMAGE or not self._of_a_classifier,
            f"a model of kind {self.kind} has no {self._of_a_classifier}",
        )
        _check(self.runner in RUNNERS, f"runner must be one of {', '.join(RUNNERS)}")
        _check(0 <= self.processes <= MOST_PROCESSES, f"processes must be between 0 and {MOST_PROCESSES}")
        _check((self.archive is None) == (self.kind != ARCHIVE), "a model archive has settings of its own")
        _check(not (self.on_use and self.golden), "a model that is loaded on use has no golden set")
        _check(not (self.on_use and self.archive), "a model archive is loaded when it has workers, not on use")

    @property
    def key(self) -> tuple[str, str]:
        """Its name and version."""
        return self.name, self.version

    @property
    def is_idle(self) -> bool:
        """Whether it has no workers: it is known, and not loaded."""
        return self.archive is not None and (self.is_starting or not self.archive.min_workers)

    @property
    def is_starting(self) -> bool:
        """Whether it is idle, and requests wait for the workers that a later change starts."""
        return self.archive is not None and self.archive.is_starting

    def processes_in(self, workers: int) -> int:
        """Processes of its engine in one of so many workers of the server; 0: as the server is set."""
        return math.ceil(self.archive.min_workers / workers) if self.archive else self.processes

    @property
    def _of_a_classifier(self) -> str:
        """The first setting that only image classifiers have."""
        names = ("labels", "preprocess", "activation", "output", "golden")
        return next((name for name in names if getattr(self, name)), "")


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
        _check(0 < self.share <= 1, "share must be above 0 and at most 1")


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
        return dataclasses.replace(self, added=rest)._that_is_there()

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
        _check(least <= processes <= MOST_PROCESSES, f"processes must be between {least} and {MOST_PROCESSES}")
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

    def to_json(self) -> str:
        """Everything but `fixed`, which the command line says anew at each start."""
        document = {
            "added": [_plain(each) for each in self.added],
            "removed": list(self.removed),
            "defaults": {name: vars(each) for name, each in self.defaults.items()},
            "shadows": {name: vars(each) for name, each in self.shadows.items()},
            "processes": dict(self.processes),
        }
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str | bytes, fixed: tuple[str, ...]) -> ModelSet:
        """The set that `to_json` wrote, beside the models of a command line, which may be another one since.

        What concerns models that are no more is left out. The first model of the command line is served even if it
        was removed, unless versions of it were added.

        Args:
            text: of `to_json`.
            fixed: names that the command line gives.

        Raises:
            RecordError: the text is anything else; the message names the field.
        """
        document = _parsed(text)
        check_names(document, _FIELDS, "models")
        if document.keys() != set(_FIELDS):
            raise RecordError(f"models: {', '.join(_FIELDS)} are needed")
        added = tuple(_added(each) for each in _list(document, "added"))
        if len({each.key for each in added}) < len(added):
            raise RecordError("models: added: one version is there twice")
        read = cls(
            fixed=fixed,
            added=added,
            removed=tuple(_text(each) for each in _list(document, "removed")),
            defaults=_records(Default, document, "defaults"),
            shadows=_records(Shadow, document, "shadows"),
            processes=_counts(document),
        )
        return read._that_is_there()

    def _that_is_there(self) -> ModelSet:
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


_FIELDS = ("added", "removed", "defaults", "shadows", "processes")


def _unknown(name: str) -> UnknownModel:
    return UnknownModel(f"No model is called {name[:80]!r}.")


def _less(mapping: Mapping[str, _Value], name: str) -> dict[str, _Value]:
    return {key: value for key, value in mapping.items() if key != name}


def _plain(model: AddedModel) -> dict[str, Any]:
    """As `dataclasses.asdict`, which takes ten times as long."""
    golden, archive = model.golden and vars(model.golden), model.archive and vars(model.archive)
    return {**vars(model), "golden": golden, "archive": archive}


def _check(holds: bool, rule: str) -> None:
    if not holds:
        raise RecordError(rule)


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RecordError("models: not valid JSON") from None


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(document[name], list):
        raise RecordError(f"models: {name}: must be a list")
    return list(document[name])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RecordError("models: removed: must be strings")
    return value


def _added(document: Any) -> AddedModel:
    check_names(document, [each.name for each in dataclasses.fields(AddedModel)], "models: added")
    rest = {name: value for name, value in document.items() if name not in ("golden", "archive")}
    golden, archive = document.get("golden"), document.get("archive")
    rules = None if golden is None else read_record(GoldenAsked, golden, "models: added: golden")
    asked = None if archive is None else read_record(ArchiveAsked, archive, "models: added: archive")
    return read_record(AddedModel, rest, "models: added", golden=rules, archive=asked)


def _records(kind: type[_Value], document: Mapping[str, Any], name: str) -> dict[str, _Value]:
    if not isinstance(document[name], dict):
        raise RecordError(f"models: {name}: must be an object")
    return {key: read_record(kind, each, f"models: {name}") for key, each in document[name].items()}


def _counts(document: Mapping[str, Any]) -> dict[str, int]:
    counts = document["processes"]
    if not isinstance(counts, dict) or not all(
        type(count) is int and 1 <= count <= MOST_PROCESSES for count in counts.values()
    ):
        raise RecordError(f"models: processes: must be numbers between 1 and {MOST_PROCESSES}")
    return counts
