"""A set of models as JSON: in the journal, and between the processes of a server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from runtime.added_model import MOST_PROCESSES, AddedModel, ArchiveAsked, GoldenAsked
from runtime.model_set import Default, ModelSet, Shadow
from runtime.record import RecordError, check_names, read_record

_FIELDS = ("added", "removed", "defaults", "shadows", "processes")

_Value = TypeVar("_Value")


def to_json(models: ModelSet) -> str:
    """Everything but `fixed`, which the command line says anew at each start."""
    document = {
        "added": [_plain(each) for each in models.added],
        "removed": list(models.removed),
        "defaults": {name: vars(each) for name, each in models.defaults.items()},
        "shadows": {name: vars(each) for name, each in models.shadows.items()},
        "processes": dict(models.processes),
    }
    return json.dumps(document)


def from_json(text: str | bytes, fixed: tuple[str, ...]) -> ModelSet:
    """The set that `to_json` wrote, beside the models of a command line, which may be another one since.

    What concerns models that are no more is left out. The first model of the command line is served even if it was
    removed, unless versions of it were added.

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
    models = ModelSet(
        fixed=fixed,
        added=added,
        removed=tuple(_text(each) for each in _list(document, "removed")),
        defaults=_records(Default, document, "defaults"),
        shadows=_records(Shadow, document, "shadows"),
        processes=_counts(document),
    )
    return models.of_models_that_are_there()


def _plain(model: AddedModel) -> dict[str, Any]:
    """As `dataclasses.asdict`, which takes ten times as long."""
    golden, archive = model.golden and vars(model.golden), model.archive and vars(model.archive)
    return {**vars(model), "golden": golden, "archive": archive}


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
