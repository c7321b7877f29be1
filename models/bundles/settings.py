"""What a TorchScript file does not say itself: labels, preprocessing, activation, output. Runs nothing."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundles.labels import Labels, labels_of, load_labels
from models.bundles.spec import ACTIVATIONS, PreprocessSpec
from models.bundles.text import read_json
from models.errors import BundleError
from models.images.presets import preprocess_of

EXTRA_FILE = "snapserve.json"  # of TorchScript's extra files
_MAX_BYTES = 10_000_000

Resolver = Callable[[Path], Path]  # the file that a path leads to; raises where it must not be opened


def as_it_is(path: Path) -> Path:
    """The resolver that allows every path."""
    return path


@dataclass(frozen=True)
class Settings:
    """What is known of a file that is no bundle.

    Attributes:
        labels: one per class; None: not given.
        preprocess: how images are prepared; None: not given.
        activation: one of `ACTIVATIONS`; "" is found out from the outputs.
        output: which of several outputs holds the scores: a name, or a position from 0; "" is found out.
    """

    labels: Labels | None = None
    preprocess: PreprocessSpec | None = None
    activation: str = ""
    output: str = ""

    def __post_init__(self) -> None:
        if self.activation and self.activation not in ACTIVATIONS:
            raise BundleError(f"activation {self.activation!r} must be one of {', '.join(ACTIVATIONS)}")

    def over(self, other: Settings) -> Settings:
        """These, and those of `other` for what is left open here."""
        fields = (field.name for field in dataclasses.fields(self))
        return Settings(**{name: getattr(self, name) or getattr(other, name) for name in fields})


def settings_of(file: Path, resolve: Resolver = as_it_is) -> Settings:
    """The settings in `NAME.json` beside `NAME.pt`, and in the file's extra file `snapserve.json`; the first win.

    Args:
        file: of the program.
        resolve: gets the path of each further file before it is opened; it may raise anything.

    Raises:
        BundleError: one of them cannot be read, or holds anything else; one line that names it.
    """
    return _beside(file, resolve).over(_inside(file))


def _beside(file: Path, resolve: Resolver) -> Settings:
    beside = file.with_suffix(".json")
    if beside == file or not beside.is_file():
        return Settings()
    document = read_json(resolve(beside), "settings file")
    return _parse(document, str(beside), lambda name: resolve(beside.parent / name))


def _inside(file: Path) -> Settings:
    try:
        with zipfile.ZipFile(file) as archive:
            name = next((each for each in archive.namelist() if each.endswith(f"/extra/{EXTRA_FILE}")), None)
            if name is None or archive.getinfo(name).file_size > _MAX_BYTES:
                return Settings()
            document = json.loads(archive.read(name))
    except ValueError:
        raise BundleError(f"{file}: its extra file {EXTRA_FILE} is not valid JSON") from None
    except Exception:  # what makes a damaged archive: `models.bundles.bare.check_archive` tells
        return Settings()
    return _parse(document, f"{file}: {EXTRA_FILE}", None)


def _parse(document: Any, where: str, file_of: Callable[[str], Path] | None) -> Settings:
    names = [field.name for field in dataclasses.fields(Settings)]
    if not isinstance(document, dict) or not document.keys() & set(names):
        raise BundleError(
            f"{where}: expected settings of the model, an object with some of {', '.join(names)} "
            "(docs/models.md); rename the file if it is none"
        )
    unknown = sorted(document.keys() - set(names))
    if unknown:
        raise BundleError(f"{where}: unknown field {unknown[0]!r}; there are {', '.join(names)}")
    for name in ("activation", "output"):
        if not isinstance(document.get(name, ""), str | int):
            raise BundleError(f"{where}: {name!r} must be text")
    try:
        return Settings(
            labels=_labels(document, where, file_of),
            preprocess=preprocess_of(document["preprocess"], f"{where}: preprocess")
            if "preprocess" in document
            else None,
            activation=str(document.get("activation", "")),
            output=str(document.get("output", "")),
        )
    except BundleError as error:
        raise BundleError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def _labels(document: Mapping[str, Any], where: str, file_of: Callable[[str], Path] | None) -> Labels | None:
    given = document.get("labels")
    if given is None:
        return None
    if isinstance(given, str):
        if file_of is None:
            raise BundleError(f"{where}: 'labels' must be the labels themselves, not the name of a file")
        return load_labels(file_of(given))
    return labels_of(given, f"{where}: labels")
