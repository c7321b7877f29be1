"""Snapshots: files of properties that remember settings and archives from one start of the server to the next."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from runtime.added_model import ARCHIVE, AddedModel, ArchiveAsked
from runtime.model_set import ModelSet
from runtime.record import RecordError
from server.config import Config, ConfigError
from server.torchserve.properties import write_properties
from server.torchserve.registration import NUMBERS
from server.torchserve.settings import SNAPSHOT, texts_of

log = logging.getLogger("snapserve")

STARTUP, CHANGE, SHUTDOWN = "startup", "snapshot", "shutdown"
_KEPT = 10  # newest files
_PATTERN = "*.cfg"
_KINDS = tuple(f"-{kind}.cfg" for kind in (STARTUP, CHANGE, SHUTDOWN))
_PREFIX = ".snapshot-"
_DIGITS = re.compile(r"\d{17}")  # the time in the name of a snapshot

_TEXTS = {"handler": "handler", "modelUrl": "url"}  # ours alone; TorchServe ignores what it does not know


@dataclass(frozen=True)
class Remembered:
    """The archives in a snapshot.

    Attributes:
        models: in its order.
        defaults: the default version, by name.
    """

    models: tuple[AddedModel, ...]
    defaults: Mapping[str, str]

    def restore(self, models: ModelSet) -> ModelSet:
        """A set with these archives. Raises RuntimeFault."""
        for model in self.models:
            models = models.with_model(model)
        for name, version in self.defaults.items():
            models = models.with_default(name, version, undoing=True)
        return models


class Snapshots:
    """Writes snapshots of one server, and keeps the newest."""

    def __init__(self, config: Config) -> None:
        """Takes the settings; config: of the server."""
        self._folder = config.torchserve.snapshots
        self._settings = texts_of(config)

    def write(self, models: ModelSet, kind: str = CHANGE) -> None:
        """Writes one, whole or not at all. It blocks, and a failure is logged: archives are served all the same.

        Args:
            models: that are served.
            kind: `STARTUP`, `CHANGE` or `SHUTDOWN`.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{self._time()}-{kind}.cfg"
            self._write(name, models)
            self._remove_old()
        except OSError as error:
            log.error("%s: no snapshot can be written: %s", self._folder, error.strerror)

    def _time(self) -> str:
        """Now, in milliseconds; later than any other snapshot, whatever became of the clock."""
        now = datetime.now()
        time, last = f"{now:%Y%m%d%H%M%S}{now.microsecond // 1000:03d}", newest(self._folder)
        digits = _DIGITS.match(last.name) if last else None
        return time if digits is None or digits[0] < time else f"{int(digits[0]) + 1:017d}"

    def _write(self, name: str, models: ModelSet) -> None:
        """Raises OSError."""
        document = json.dumps(_document(name, models), separators=(",", ":"))
        _write(self._folder / name, write_properties({**self._settings, SNAPSHOT: document}, "Saved by SnapServe"))

    def _remove_old(self) -> None:
        for file in _found(self._folder)[:-_KEPT]:
            file.unlink(missing_ok=True)


def _write(file: Path, text: str) -> None:
    """Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def newest(folder: Path) -> Path | None:
    """The newest snapshot in a folder; None where there is none."""
    found = _found(folder)
    return found[-1] if found else None


def _found(folder: Path) -> list[Path]:
    """Snapshots, the oldest first: their names begin with the time."""
    return sorted(file for file in folder.glob(_PATTERN) if file.name.endswith(_KINDS) and file.name[:1] != ".")


def _document(name: str, models: ModelSet) -> dict[str, Any]:
    archives = [each for each in models.added if each.archive]
    by_name: dict[str, dict[str, Any]] = {}
    for each in archives:
        by_name.setdefault(each.name, {})[each.version] = _model(models, each, each.archive)
    return {"name": name, "modelCount": len(archives), "created": round(time.time() * 1000), "models": by_name}


def _model(models: ModelSet, model: AddedModel, asked: ArchiveAsked | None) -> dict[str, Any]:
    assert asked is not None
    texts = {key: getattr(asked, field) for key, field in _TEXTS.items() if getattr(asked, field)}
    return {
        "defaultVersion": models.default_of(model.name) == model.version,
        "marName": model.path,
        **{key: getattr(asked, field) for key, field in NUMBERS.items()},
        "runtimeType": "python",
        **texts,
    }


def remembered(text: str, file: Path) -> Remembered:
    """What the value of `model_snapshot` says.

    Args:
        text: of it.
        file: for messages.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        versions = [
            (name, version, told)
            for name, each in json.loads(text)["models"].items()
            for version, told in each.items()
        ]
        models = tuple(_added(*each) for each in versions)
        defaults = {name: version for name, version, told in versions if told.get("defaultVersion") is True}
    except RecordError as error:
        raise ConfigError(f"{file}: {SNAPSHOT}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise ConfigError(f"{file}: {SNAPSHOT} is damaged") from None
    return Remembered(models, defaults)


def _added(name: str, version: str, told: Mapping[str, Any]) -> AddedModel:
    """Raises RecordError, KeyError, TypeError."""
    numbers = {field: max(0, int(told[key])) for key, field in NUMBERS.items() if told.get(key) is not None}
    texts = {field: str(told[key]) for key, field in _TEXTS.items() if told.get(key)}
    asked = ArchiveAsked(**numbers, **texts)  # type: ignore[arg-type]
    return AddedModel(name, version, str(told["marName"]), kind=ARCHIVE, archive=asked)
