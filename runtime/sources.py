"""Paths -> models on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from models.bundles.bare import bare_bundle
from models.bundles.bundle import ModelBundle
from models.bundles.paths import exists
from models.bundles.settings import Resolver, Settings, as_it_is, settings_of
from models.errors import BundleError

Bundles = dict[str, ModelBundle]
# By name, whether a model is a bundle -> settings of those that are not.
SettingsOf = Callable[[Mapping[str, bool]], Mapping[str, Settings]]


def open_sources(words: Sequence[str], settings: SettingsOf) -> Bundles:
    """Reads and checks bundles and TorchScript files. Runs nothing, and needs no torch for bundles.

    Args:
        words: [NAME=]PATH each.
        settings: of the TorchScript files among them.

    Raises:
        BundleError: a bundle or file is damaged, or two models have one name.
    """
    found = [_find(*_split(word)) for word in words]
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"two models are called {name!r}; name one of them with --model NAME=PATH")
    given = settings({name: isinstance(each, ModelBundle) for name, each in found})
    return {
        name: each if isinstance(each, ModelBundle) else _bare(name, each, given[name]) for name, each in found
    }


def open_source(path: Path, name: str, settings: Settings, resolve: Resolver = as_it_is) -> ModelBundle:
    """Reads and checks one bundle folder or TorchScript file. Runs nothing.

    Args:
        path: of it.
        name: under which it is served.
        settings: of a TorchScript file; a bundle brings its own.
        resolve: gets the path of each file that the settings beside a TorchScript file are in, or name.

    Raises:
        BundleError: it is damaged, or a bundle has settings.
        EngineError: it is a damaged file, or no TorchScript.
    """
    if not path.is_dir():
        return _bare(name, path, settings, resolve)
    if settings != Settings():
        raise BundleError(f"{path}: a bundle brings its labels, preprocess, activation and output; leave them out")
    return ModelBundle.load(path)


def _split(word: str) -> tuple[str, Path]:
    """[NAME=]PATH; a path may contain "=", a name no "/"."""
    name, equals, path = word.partition("=")
    named = equals and "/" not in name and not exists(word)
    return (name, Path(path)) if named else ("", Path(word))


def _find(name: str, path: Path) -> tuple[str, ModelBundle | Path]:
    """The name of a model, and its bundle or its file."""
    if not exists(path):
        raise BundleError(f"{path}: there is no such folder or file")
    if not path.is_dir():
        return name or path.stem, path
    bundle = ModelBundle.load(path)
    return name or bundle.spec.name, bundle


def _bare(name: str, file: Path, settings: Settings, resolve: Resolver = as_it_is) -> ModelBundle:
    return bare_bundle(file, settings.over(settings_of(file, resolve)), name)
