"""What the management tells of the models, as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.model_set import ModelSet

Status = Mapping[int, Sequence[Mapping[str, Any]]]  # by worker, of each version


def all_models(models: ModelSet, status: Status) -> dict[str, Any]:
    """All models.

    Args:
        models: the committed set.
        status: of those workers that have told it.
    """
    names = dict.fromkeys(name for name, _ in models)
    return {"models": [one_model(models, name, status) for name in names], "default": models.default_name}


def one_model(models: ModelSet, name: str, status: Status) -> dict[str, Any]:
    """One model; without versions where there is none of that name. Arguments as of `all_models`."""
    versions, shadow = models.versions(name), models.shadows.get(name)
    return {
        "name": name,
        "default": models.default_of(name) if versions else None,
        "before": models.before(name) or None,
        "shadow": dataclasses.asdict(shadow) if shadow else None,
        "versions": [_version(models, name, version, status) for version in versions],
    }


def _version(models: ModelSet, name: str, version: str, status: Status) -> dict[str, Any]:
    added = models.find(name, version)
    settings = dataclasses.asdict(added) if added else {"processes": models.processes_of(name, version)}
    return {
        "version": version,
        "source": "added" if added else "command-line",
        **{key: value for key, value in settings.items() if key not in ("name", "version")},
        "workers": [
            {"worker": worker, **{key: value for key, value in each.items() if key not in ("name", "version")}}
            for worker, told in sorted(status.items())
            for each in told
            if (each["name"], each["version"]) == (name, version)
        ],
    }
