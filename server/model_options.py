"""Models as the options name them, with the options of each: `--model cats=cats.pt --labels cats=cats.txt`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.bundles.labels import load_labels
from models.bundles.paths import exists
from models.bundles.settings import Settings
from models.errors import BundleError
from models.images.presets import read_preprocess
from runtime.folder import StoreFolder
from runtime.sources import Bundles, open_sources
from server.config import ModelConfig
from server.default_model import default_model

NO_STORE = "The server has no --model-store FOLDER; only below it models can be added."

_FIELDS = ("labels", "preprocess", "activation", "output")


def find_bundles(config: ModelConfig) -> Bundles:
    """Reads and checks what is served; without `--model`, `default_model()`.

    Raises:
        BundleError: a bundle, file or option is wrong.
    """
    words = config.model or (str(default_model()),)
    return open_sources(words, lambda models: model_settings(config, models))


def store_folder(config: ModelConfig) -> StoreFolder | None:
    """The folder of `--model-store`; None without one. Raises BundleError where it cannot be read."""
    if not config.model_store:
        return None
    try:
        folder = StoreFolder(Path(config.model_store))
        if folder.path.is_dir():
            return folder
        reason = "is no folder"
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read"
    raise BundleError(f"--model-store {config.model_store}: {reason}")


def model_settings(config: ModelConfig, models: Mapping[str, bool]) -> dict[str, Settings]:
    """The options of each model that is no bundle.

    Args:
        config: its options of `_FIELDS`, each [NAME=]VALUE.
        models: by name, whether it is a bundle, which brings all of this itself.

    Raises:
        BundleError: an option is for a bundle, for no model, or it is open for which; or its value is wrong.
    """
    given: dict[str, dict[str, str]] = {name: {} for name, bundle in models.items() if not bundle}
    for field in _FIELDS:
        for word in getattr(config, field):
            name, value = _target(f"--{field}", word, models)
            if field in given[name]:
                raise BundleError(f"--{field} {word}: {name} has {given[name][field]!r} already")
            given[name][field] = value
    return {name: _settings(values) for name, values in given.items()}


def _target(option: str, word: str, models: Mapping[str, bool]) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if equals and name in models:
        if models[name]:
            raise BundleError(f"{option} {word}: {name} is a bundle and brings its own; leave the option out")
        return name, value
    if equals and "/" not in name and not exists(word):
        raise BundleError(f"{option} {word}: no model is called {name!r}, there are {', '.join(models)}")
    return _only(option, word, models), word


def _only(option: str, word: str, models: Mapping[str, bool]) -> str:
    bare: Sequence[str] = [name for name, bundle in models.items() if not bundle]
    if not bare:
        names = ", ".join(models)
        raise BundleError(f"{option} {word}: {names}: a bundle brings its own; leave the option out")
    if len(bare) > 1:
        raise BundleError(f"{option} {word}: for which of {', '.join(bare)}? Write {option} {bare[0]}={word}")
    return bare[0]


def _settings(values: Mapping[str, str]) -> Settings:
    try:
        return Settings(
            labels=load_labels(Path(values["labels"])) if "labels" in values else None,
            preprocess=read_preprocess(values["preprocess"]) if "preprocess" in values else None,
            activation=values.get("activation", ""),
            output=values.get("output", ""),
        )
    except BundleError as error:
        raise BundleError(f"--{error}" if str(error).startswith("activation") else str(error)) from None
